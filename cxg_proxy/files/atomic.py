"""Atomic file operations in a folder held open, so that a symbolic link planted in its place cannot redirect them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_ABANDONED_SECONDS = 3600
_PIECE = 1 << 20


class Unconfirmed(OSError):
    """The new file is in place, but the disk did not confirm that its name survives a power cut."""


@contextlib.contextmanager
def opened(folder: Path | str, *, inside: int | None = None) -> Iterator[int]:
    """Open a folder and yield its descriptor; raises OSError if it is not a folder, or is a symbolic link."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=inside)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make(folder: Path, *, for_others: bool = False) -> None:
    """Create a folder and its missing parents so that they survive a power cut.

    Each is readable by its owner only, or by everybody with `for_others`.
    """
    missing = [level for level in (folder, *folder.parents) if not os.path.lexists(level)]
    for level in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process of this user was faster
            os.mkdir(level, 0o700)
            if for_others:
                os.chmod(level, 0o755)  # noqa: S103 - others must be able to read its content, whatever the umask
        with contextlib.suppress(PermissionError):  # creating folders may be allowed where reading is not
            sync(level.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create(folder: int, name: str, content: bytes, *, durable: bool = True) -> None:
    """Write a new file for its owner only; raises FileExistsError if the name is taken, even by a link."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    try:
        _write(descriptor, content)
        if durable:
            os.fsync(descriptor)
    except BaseException:
        remove(folder, name)
        raise
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def replace(folder: int, name: str, content: bytes, *, at_last: Callable[[], object] = bool) -> None:
    """Replace a file atomically.

    `at_last` is called once the new file is safe on the disk beside the old one; if it raises, the old file stays. The
    old file also stays after any OSError except Unconfirmed.
    """
    temporary = f".{name}.{secrets.token_hex(8)}"
    create(folder, temporary, content)
    try:
        at_last()
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        remove(folder, temporary)
        raise
    try:
        os.fsync(folder)
    except OSError as error:
        raise Unconfirmed(error.errno, error.strerror) from error


def read(folder: int, name: str, *, limit: int = -1, follow: bool = False) -> bytes:
    """Read a regular file, or its first `limit` bytes; raises OSError for anything else (a pipe would never end)."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    with open(os.open(name, flags, dir_fd=folder), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{name} is not a regular file")
        return file.read() if limit < 0 else file.read(limit)


def remove(folder: int, name: str) -> None:
    """Remove a file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def remove_abandoned(folder: int, names: Iterable[str]) -> None:
    """Remove what a killed writer left behind, but no recent files: their writer may still be running."""
    for name in names:
        with contextlib.suppress(OSError):
            if time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                os.unlink(name, dir_fd=folder)


def write_whole(file: Path, content: bytes) -> None:
    """Replace `file` so that a reader sees either the old or the new content, never a part; raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "wb") as temporary:
            temporary.write(content)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
