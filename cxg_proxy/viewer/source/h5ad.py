"""Reads the .h5ad file: tells how far it is, and says in the user's words what is wrong with a file it cannot read."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import time
from collections.abc import Callable
from typing import Any

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import DamagedFile, DatasetNotFound, NotEnoughMemory, NotH5ad, NotReadable, NotViewable

_NUMBER = re.compile(r"errno = (\d+)")  # in HDF5's own words

_HDF5 = b"\x89HDF\r\n\x1a\n"
_LOOKALIKES = (
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"PK\x03\x04", "it is a zip archive; unpack it first"),
    (b"BZh", "it is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "it is compressed with xz; unpack it first"),
    (b"<", "it is a web page or XML; perhaps a download that failed"),
)
_NO_MEMORY = ("memory allocation failed", "unable to allocate", "can't allocate", "can't start new thread")
_PIECE_BYTES = 4 * 1024**2
_STEP_SECONDS = 0.2

# What HDF5 and anndata raise at a file that is damaged or not what it claims to be.
ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def check(path: str) -> None:
    """Raise the problem that keeps `path` from being opened at all, if there is one."""
    name = display_name(path)
    if not path.endswith(".h5ad"):  # cellxgene would say only that the type is not allowed
        raise NotH5ad(name, detail="its name does not end in .h5ad")
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise NotH5ad(name, detail="it is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise NotH5ad(name, detail="it is not an ordinary file")
        with open(path, "rb") as file:
            _check_start(name, file.read(8), status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetNotFound(name) from error
    except PermissionError as error:
        raise NotReadable(name) from error
    except OSError as error:
        raise DamagedFile(name, detail=error.strerror or str(error)) from error


def _check_start(name: str, start: bytes, size: int) -> None:
    if size == 0:
        raise NotH5ad(name, detail="it is empty")
    for magic, detail in _LOOKALIKES:
        if start.startswith(magic):
            raise NotH5ad(name, detail=detail)
    # HDF5 may begin with a block of the user's own, so another start proves nothing yet: h5py has the last word.


def look(path: str) -> None:
    """Raise what a first look at an openable file shows: not HDF5, damaged at its end, or HDF5 of another kind."""
    import h5py  # noqa: PLC0415 - `starting` must be out before

    check(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            check_anndata(path, file)
    except ERRORS as error:
        raise open_problem(path, error) from error


def open_problem(path: str, error: Exception) -> Exception:
    """What the failure of opening or reading the file means for its reader."""
    name = display_name(path)
    text = _first_line(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_MEMORY):
        return NotEnoughMemory(name)
    if isinstance(error, PermissionError):
        return NotReadable(name)
    if isinstance(error, FileNotFoundError):
        return DatasetNotFound(name)
    if isinstance(error, OSError) and not _has_signature(path):
        return NotH5ad(name)
    if isinstance(error, (OSError, KeyError, RuntimeError)):
        return DamagedFile(name, detail=text)
    return NotViewable(name, detail=text)


def _has_signature(path: str) -> bool:
    """Whether HDF5's signature is where the format allows it: at 0, 512, 1024, 2048 and so on."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            file.seek(offset)
            if file.read(len(_HDF5)) == _HDF5:
                return True
            offset = max(512, offset * 2)
    return False


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")


def check_anndata(path: str, root: Any) -> None:
    """Raise NotH5ad unless the open HDF5 file holds what every AnnData file holds."""
    keys = [str(key) for key in root]
    if {"obs", "var"} <= set(keys):
        return
    if {"matrix", "row_attrs"} <= set(keys):
        detail = "it is a .loom file"
    else:
        detail = f"it is HDF5, but holds {', '.join(sorted(keys)[:5]) or 'nothing'} in place of obs and var"
    raise NotH5ad(display_name(path), detail=detail)


class Watched(io.FileIO):
    """The file for HDF5 to read from, which reports the share of its bytes read so far: rising, and below 1.

    HDF5's own way of reading asks the system for a whole matrix at once, and for a lock that some network
    file systems refuse.
    """

    def __init__(self, path: str, report: Callable[[float], None]):
        super().__init__(path, "rb")
        self._size = max(1, os.fstat(self.fileno()).st_size)
        self._report = report
        self._done = 0
        self._told = (0.0, 0.0)  # what was reported last, and when

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, piece by piece; HDF5 never looks whether all of it came."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            count = super().readinto(view[filled : filled + _PIECE_BYTES])
            if not count:
                raise OSError("the file ends too early")
            filled += count
            self._count(count)
        return filled

    def _count(self, count: int) -> None:
        self._done += count
        share, now = min(0.99, self._done / self._size), time.monotonic()
        if share >= self._told[0] + 0.005 and now >= self._told[1] + _STEP_SECONDS:
            self._told = (share, now)
            self._report(share)


def fingerprint(path: str) -> str:
    """What tells one state of the file from another, for ETags."""
    status = os.stat(path)
    return f"{os.path.realpath(path)!r} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def number(error: Exception) -> int | None:
    """The system's number of an error, also where HDF5 reports it in words alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None
