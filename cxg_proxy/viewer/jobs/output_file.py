"""A new file that is whole or not there: made by us alone, removed when its making fails or nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import NotPrepared, Problem
from cxg_proxy.files.space import FULL, free_bytes
from cxg_proxy.viewer.source.h5ad import number

_BLOCK_BYTES = 16 * 1024**2
_STEP_SECONDS = 0.2


class Output:
    """The file at `path`, which is not there yet."""

    def __init__(self, path: str):
        self.path = os.path.abspath(path)
        self._descriptor: int | None = None
        self._finished = False
        self._lock = threading.Lock()

    def copy(self, source: str, report: Callable[[float], None]) -> None:
        """Begin as a copy of another file, telling the share that is copied."""
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._check_room(size)
            out = self._create()
            done, told = 0, time.monotonic()
            while part := _copied(file.fileno(), out, done):
                done += part
                if time.monotonic() > told + _STEP_SECONDS:
                    told = time.monotonic()
                    report(min(1.0, done / max(1, size)))

    def write(self, content: bytes) -> None:
        """Begin with this content, or go on with it."""
        view = memoryview(content)
        out = self._descriptor if self._descriptor is not None else self._create()
        while view:
            view = view[os.write(out, view) :]

    def finish(self) -> None:
        """Have it on the disk, to stay."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        with self._lock:
            self._finished = True
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Leave nothing behind; a file that somebody else made is not ours to remove."""
        with self._lock:
            self._remove()

    def abandon(self) -> None:
        """End the process, whatever it is doing, and leave nothing unfinished behind."""
        with self._lock:  # never given back: nothing is made any more
            self._remove()
            os._exit(0)

    def problem(self, error: Exception) -> Problem | None:
        """What an error while making it means, if it is about this file."""
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
        """Say at once what would otherwise be found out when the disk is full, for others too."""
        free = free_bytes(os.path.dirname(self.path))
        if free < size:
            detail = f"it needs {size / 1e6:,.0f} MB, but there are {free / 1e6:,.0f} MB of free space"
            raise NotPrepared(display_name(self.path), detail=detail)


def _copied(source: int, out: int, done: int) -> int:
    """Copy some more; returns how much, 0 at the end."""
    with contextlib.suppress(OSError, AttributeError):  # not on every system, nor between any two file systems
        if part := os.copy_file_range(source, out, _BLOCK_BYTES, done, done):
            return part
    block = os.pread(source, _BLOCK_BYTES, done)
    return os.pwrite(out, block, done) if block else 0
