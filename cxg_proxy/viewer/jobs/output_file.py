"""The output file of a job: new, and removed if writing it fails or the gateway no longer waits for it."""

from __future__ import annotations

import contextlib
import os
import threading

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import NotPrepared, Problem
from cxg_proxy.files.space import FULL, free_bytes
from cxg_proxy.viewer.progress import Report, Throttled
from cxg_proxy.viewer.source.h5ad import number

_BLOCK_BYTES = 16 * 1024**2


class Output:
    """The file at `path`, which must not exist yet."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)
        self._descriptor: int | None = None
        self._finished = False
        self._lock = threading.Lock()

    def copy(self, source: str, report: Report) -> None:
        """Create the file as a copy of another one, reporting the share that is copied, from 0 to 1.

        Raises NotPrepared if the disk has no room for it, and OSError.
        """
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._check_room(size)
            out = self._create()
            done, throttled = 0, Throttled(report)
            while part := _copied(file.fileno(), out, done):
                done += part
                throttled(min(1.0, done / max(1, size)))

    def write(self, content: bytes) -> None:
        """Append this content, creating the file if necessary; raises OSError."""
        view = memoryview(content)
        out = self._descriptor if self._descriptor is not None else self._create()
        while view:
            view = view[os.write(out, view) :]

    def finish(self) -> None:
        """Flush the file to the disk, and close it."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        with self._lock:
            self._finished = True
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Remove the file unless it is finished or was created by another process."""
        with self._lock:
            self._remove()

    def abandon(self) -> None:
        """Remove the unfinished file, and end the process at once."""
        with self._lock:  # never released, so that no other thread creates the file again
            self._remove()
            os._exit(0)

    def problem(self, error: Exception) -> Problem | None:
        """Return the NotPrepared that explains an error in writing this file, or None for another error."""
        name = display_name(self.path)
        if number(error) in FULL:
            return NotPrepared(name, detail="the disk is full")
        if isinstance(error, OSError) and error.filename == self.path:
            return NotPrepared(name, detail=error.strerror or str(error))
        return None

    def _create(self) -> int:
        with self._lock:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
        return self._descriptor

    def _remove(self) -> None:
        if self._descriptor is not None and not self._finished:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            os.close(self._descriptor)
            self._descriptor = None

    def _check_room(self, size: int) -> None:
        """Raise NotPrepared unless `size` bytes are free, rather than fill the disk, for others too, and then fail."""
        free = free_bytes(os.path.dirname(self.path))
        if free < size:
            detail = f"it needs {size / 1e6:,.0f} MB, but there are {free / 1e6:,.0f} MB of free space"
            raise NotPrepared(display_name(self.path), detail=detail)


def _copied(source: int, out: int, done: int) -> int:
    """Copy the next block, and return its size in bytes, 0 at the end."""
    with contextlib.suppress(OSError, AttributeError):  # unavailable on some systems and between some file systems
        if part := os.copy_file_range(source, out, _BLOCK_BYTES, done, done):
            return part
    block = os.pread(source, _BLOCK_BYTES, done)
    return os.pwrite(out, block, done) if block else 0
