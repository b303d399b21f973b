"""Array files of a store: written at any offset and flushed to the disk, with errors in the user's terms."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxg_proxy.errors import NoRoom, StoreNotWritten
from cxg_proxy.files.space import FULL, free_bytes
from cxg_proxy.viewer.progress import Progress

_BLOCK_BYTES = 16 * 1024**2
_BEHIND = 64 * 1024**2


class ArrayFile:
    """One new file; an OSError on creating or writing it is raised as NoRoom or StoreNotWritten about `label`."""

    def __init__(self, path: Path, label: str, progress: Progress, behind: ThreadPoolExecutor | None = None):
        self._label = label
        self._progress = progress
        self._behind = behind
        self._flushing: Future[None] | None = None
        self._unflushed = 0
        with explained(label):
            # Others may never write to the file; the umask decides whether they may read it.
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o644)

    def write(self, values: NDArray[Any], offset: int) -> None:
        """Write the values `offset` bytes after the beginning of the file."""
        view = values.data.cast("B")
        while view:
            with explained(self._label):
                count = os.pwrite(self._descriptor, view[:_BLOCK_BYTES], offset)
            self._progress.advance(count)
            view, offset = view[count:], offset + count
            self._flush_behind(count)

    def write_parts(self, values: NDArray[Any], bounds: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """Write each part of the values, from one bound to the next, at its offset in the file; all are in bytes."""
        view = values.data.cast("B")
        edges, count = bounds.tolist(), 0
        with explained(self._label):
            for start, end, offset in zip(edges, edges[1:], offsets.tolist(), strict=False):
                while start < end:
                    written = os.pwrite(self._descriptor, view[start:end], offset)
                    start, offset = start + written, offset + written  # noqa: PLW2901 - the rest of the part
                    count += written
                if count >= _BLOCK_BYTES:
                    self._progress.advance(count)
                    self._flush_behind(count)
                    count = 0
        self._progress.advance(count)

    def _flush_behind(self, count: int) -> None:
        """Flush to the disk in the background, so that `finish` need not wait for the whole file."""
        self._unflushed += count
        if self._behind and self._unflushed >= _BEHIND and (self._flushing is None or self._flushing.done()):
            self._check_flushed()
            self._unflushed = 0
            self._flushing = self._behind.submit(os.fdatasync, self._descriptor)

    def _check_flushed(self) -> None:
        """Raise the error of the last flush: the system reports it only once, and the next flush may succeed."""
        if self._flushing is not None:
            with explained(self._label):
                self._flushing.result()

    def finish(self) -> int:
        """Flush the file to the disk, and return its size in bytes."""
        self._check_flushed()
        with explained(self._label):
            os.fsync(self._descriptor)
            size = os.fstat(self._descriptor).st_size
        self._progress.advance(size)
        return size

    def close(self) -> None:
        """Close the file."""
        if self._flushing is not None:
            self._flushing.exception()  # wait: the file must not be closed during a flush
        os.close(self._descriptor)


@contextlib.contextmanager
def files(folder: Path, names: Sequence[str], label: str, progress: Progress) -> Iterator[list[ArrayFile]]:
    """Create new files in the folder, and close them in the end."""
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(ThreadPoolExecutor(1, "flush"))
        opened = []
        for name in names:
            opened.append(ArrayFile(folder / name, label, progress, behind))
            stack.callback(opened[-1].close)
        yield opened


def check_room(folder: Path, size: int, label: str) -> None:
    """Raise NoRoom unless `size` bytes are free, rather than fill the disk, for other users too, and then fail."""
    with explained(label):
        free = free_bytes(folder)
    if free < size:
        detail = f"it takes {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
        raise NoRoom(label, detail=detail)


def write_whole(folder: Path, name: str, content: bytes | memoryview, label: str, progress: Progress) -> None:
    """Write a small file, and flush it to the disk."""
    with files(folder, (name,), label, progress) as (file,):
        file.write(np.frombuffer(content, np.uint8), 0)
        file.finish()


def flush_folder(folder: Path, label: str) -> None:
    """Flush the folder's list of files to the disk."""
    with explained(label):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def explained(label: str) -> Iterator[None]:
    """Raise an OSError as NoRoom or StoreNotWritten, which explain it in the user's terms."""
    try:
        yield
    except OSError as error:
        raise problem(label, error) from error


def problem(label: str, error: OSError) -> StoreNotWritten:
    """Return the NoRoom or StoreNotWritten that explains why the system refused to write."""
    kind = NoRoom if error.errno in FULL else StoreNotWritten
    return kind(label, detail=error.strerror or str(error))
