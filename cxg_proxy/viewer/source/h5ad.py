"""An .h5ad file: reading it with progress, and explaining in the user's terms why it cannot be read."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from typing import Any

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import DamagedFile, DatasetNotFound, NotEnoughMemory, NotH5ad, NotReadable, NotViewable
from cxg_proxy.viewer.progress import Report, Throttled

_NUMBER = re.compile(r"errno = (\d+)")  # as HDF5's error messages give it

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

# What h5py raises for a file that is damaged or not what it claims to be, and anndata by way of `elements`. A TypeError
# or an AttributeError is a fault of this program.
ERRORS = (ArithmeticError, AssertionError, LookupError, MemoryError, OSError, RuntimeError, ValueError)


def check(path: str) -> None:
    """Raise the problem that keeps `path` from being opened at all, if there is one.

    Raises NotH5ad, DatasetNotFound, NotReadable or DamagedFile.
    """
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
    # An HDF5 file may begin with a user block, so another start proves nothing yet: h5py decides.


def look(path: str) -> None:
    """Raise the problem that opening the file shows: not HDF5, truncated, or HDF5 that is not AnnData."""
    import h5py  # noqa: PLC0415 - `starting` must be reported before

    check(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            check_anndata(path, file)
    except ERRORS as error:
        raise open_problem(path, error) from error


def open_problem(path: str, error: Exception) -> Exception:
    """Return the problem that explains to the user why the file could not be opened or read."""
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
    """Whether HDF5's signature is at an offset that the format allows: 0, 512, 1024, 2048 and so on."""
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
    """Raise NotH5ad unless the open HDF5 file has obs and var, as every AnnData file does.

    Raises DamagedFile if one of them is not a table.
    """
    keys = [str(key) for key in root]
    if {"obs", "var"} <= set(keys):
        for name in ("obs", "var"):
            if not _is_table(root[name]):
                raise DamagedFile(display_name(path), detail=f"its {name} is not a table")
        return
    if {"matrix", "row_attrs"} <= set(keys):
        detail = "it is a .loom file"
    else:
        detail = f"it is HDF5, but holds {', '.join(sorted(keys)[:5]) or 'nothing'} in place of obs and var"
    raise NotH5ad(display_name(path), detail=detail)


def _is_table(place: Any) -> bool:
    """Whether it is a group, or a dataset of one dimension with fields, as before AnnData 0.7."""
    kind = getattr(place, "dtype", None)
    return kind is None or (kind.names is not None and len(place.shape or ()) == 1)


class Watched(io.FileIO):
    """A file for HDF5 to read from that reports the share of its bytes read so far, rising and below 1.

    HDF5's own driver reads a whole matrix in one call, and asks for a lock that some network file systems refuse.
    """

    def __init__(self, path: str, report: Report):
        super().__init__(path, "rb")
        self._size = max(1, os.fstat(self.fileno()).st_size)
        self._report = Throttled(report)
        self._done = 0

    def readinto(self, buffer: Any) -> int:
        """Fill the whole buffer, piece by piece, since HDF5 does not check for a short read.

        Raises OSError if the file ends too early.
        """
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            count = super().readinto(view[filled : filled + _PIECE_BYTES])
            if not count:
                raise OSError("the file ends too early")
            filled += count
            self._done += count
            self._report(min(0.99, self._done / self._size))
        return filled


def fingerprint(path: str) -> str:
    """Return a text that changes whenever the file changes, for ETags: its real path, inode, size and mtime."""
    status = os.stat(path)
    return f"{os.path.realpath(path)!r} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def number(error: Exception) -> int | None:
    """Return the errno of an error, also where HDF5 gives it only in its message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1]) if found else None
