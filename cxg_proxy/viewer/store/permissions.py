"""The permissions of a store: which users may read a shared one, and whether a store found in a cache is trusted.

A store holds the data of its source. A user who may not read the source must therefore not read the store, and a store
that an untrusted user could have written is not used: it could show data that was never measured.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .origin import Origin
from .store import REPLIES

_WRITABLE = stat.S_IWGRP | stat.S_IWOTH
_CHANGEABLE = "can be changed by others; chmod go-w it"
_ACL = "system.posix_acl_access"
_SAME = (-1, -1)  # leaves the owner and the group as they are


@dataclass(frozen=True)
class Readers:
    """The users who may read a file besides its owner: its group, everybody, or nobody."""

    owner: int
    group: int
    to_group: bool
    to_all: bool

    @property
    def file_mode(self) -> int:
        """The mode of a file that these users may read and nobody may write."""
        return 0o400 | (0o040 if self.to_group or self.to_all else 0) | (0o004 if self.to_all else 0)

    @property
    def folder_mode(self) -> int:
        """The mode of a folder that these users may enter and list, and that its owner may remove."""
        return 0o700 | (0o050 if self.to_group or self.to_all else 0) | (0o005 if self.to_all else 0)


def readers(source: str) -> Readers:
    """Return who may read the file; in doubt, fewer users than really may.

    The folders above it count too: a file in a private folder is private, whatever its own mode.
    """
    return _status_and_readers(source)[1]


def _status_and_readers(source: str) -> tuple[os.stat_result, Readers]:
    """Return the stat result of the file, and who may read that very file."""
    real = Path(os.path.realpath(source))
    status = os.stat(real)
    levels = [os.stat(folder) for folder in real.parents]
    plain = not _has_acl([real, *real.parents])
    to_group = bool(status.st_mode & stat.S_IRGRP) and all(_lets_group(level, status.st_gid) for level in levels)
    to_all = bool(status.st_mode & stat.S_IRGRP and status.st_mode & stat.S_IROTH) and all(map(_lets_all, levels))
    return status, Readers(status.st_uid, status.st_gid, plain and to_group, plain and to_all)


def _lets_group(level: os.stat_result, group: int) -> bool:
    return bool(level.st_mode & stat.S_IXGRP) if level.st_gid == group else _lets_all(level)


def _lets_all(level: os.stat_result) -> bool:
    return bool(level.st_mode & stat.S_IXGRP and level.st_mode & stat.S_IXOTH)


def _has_acl(paths: Iterable[Path]) -> bool:
    """Whether one of the paths has an access control list (ACL) besides its mode."""
    for path in paths:
        with contextlib.suppress(OSError):
            if _ACL in os.listxattr(path):
                return True
    return False


def share(folder: Path, origin: Origin) -> None:
    """Let the users who may read a store's origin also read the store (its folder and content), and nobody change it.

    Unless everybody may read the file, a store built by root is given to the file's owner. That owner could put
    links into the store while root works on it, so none is followed. Raises OSError, also for an entry that is neither
    a file nor a folder, and ChangedMeanwhile if the file is no longer that of the store: its readers may differ.
    """
    status, who = _status_and_readers(origin.path)
    origin.check_unchanged(status)
    if os.geteuid() == 0 and not who.to_all:
        _set_owners(folder, who, (who.owner, who.group))
    elif who.to_group and not who.to_all:
        try:
            _set_owners(folder, who, (-1, who.group))
        except PermissionError:  # this user is not in the group
            _set_owners(folder, Readers(who.owner, who.group, to_group=False, to_all=False), _SAME)
    else:
        _set_owners(folder, who, _SAME)


def _set_owners(folder: Path, who: Readers, to: tuple[int, int]) -> None:
    """Set the readers and the owner of a folder from the inside out, since its new owner can change its content."""
    for _, folders, files, inside in os.fwalk(folder, topdown=False, onerror=_raise):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # the temporary file of a reply
                _set_owner(name, inside, who, to)
    _set_owner(folder, None, who, to)


def _set_owner(path: Path | str, inside: int | None, who: Readers, to: tuple[int, int]) -> None:
    """Set the mode and owner of a file or folder through one descriptor, following no link.

    `path` is relative to the open folder `inside`; where that is None, `path` is a folder.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if inside is None else 0)
    descriptor = os.open(path, flags, dir_fd=inside)
    try:
        status = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder and not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "neither a file nor a folder", os.fspath(path))
        mode = who.folder_mode if is_folder else who.file_mode
        owned = to[0] in (-1, status.st_uid) and to[1] in (-1, status.st_gid)
        if owned and stat.S_IMODE(status.st_mode) == mode:
            return
        if not is_folder and status.st_nlink > 1:  # a hard link: it may be a file outside the store
            raise OSError(errno.EMLINK, "a file that has other names too", os.fspath(path))
        if not owned:  # the previous group must not be able to read it even for an instant
            os.fchmod(descriptor, mode & 0o700)
            os.fchown(descriptor, *to)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def why_untrusted(folder: Path, source: str, root: Path) -> str:
    """Return why a store in a cache below `root` is not trusted, in a few words, or "" if it is. Raises OSError."""
    believed = _believed(source)
    replies = folder / REPLIES
    for path in _all(folder):
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            if replies not in path.parents:
                raise
            continue  # the temporary file of a reply, which exists only while it is written
        if reason := _doubt(status, believed):
            return f"{path} {reason}"
    return why_untrusted_above(folder, source, root)


def why_untrusted_own(folder: Path) -> str:
    """Return why a store in the user's own cache is not trusted, or "": other users may be able to write there.

    Only the owner of each file counts, not its mode, since a volume may let a group write to all its files. Some disks
    assign all files to one user. That user is trusted if the folder of stores belongs to them, only its owner may write
    to it, and this process can.
    """
    above, believed = os.stat(folder.parent), {0, os.geteuid()}
    if not _others_write(above) and os.access(folder.parent, os.W_OK):
        believed.add(above.st_uid)
    for path in (folder, *folder.iterdir()):
        if reason := _foreign(os.lstat(path), believed):
            return f"{path} {reason}"
    return ""


def why_untrusted_above(folder: Path, source: str, root: Path) -> str:
    """Return why the folders above a store, existing or not, make it untrusted, or ""; missing folders do not."""
    believed = _believed(source)
    for path in (*_between(root, folder), *root.parents):
        with contextlib.suppress(FileNotFoundError):
            if path in root.parents:
                reason = _CHANGEABLE if _others_write(os.stat(path)) else ""
            else:
                reason = _doubt(os.lstat(path), believed)
            if reason:
                return f"{path} {reason}"
    return ""


def _believed(source: str) -> set[int]:
    return {0, os.geteuid(), os.stat(source).st_uid}


def _doubt(status: os.stat_result, believed: set[int]) -> str:
    return _foreign(status, believed) or (_CHANGEABLE if _others_write(status) else "")


def _foreign(status: os.stat_result, believed: set[int]) -> str:
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return "is neither a file nor a folder"
    if status.st_uid not in believed:
        return f"belongs to user {status.st_uid}, neither to root nor to you nor to the owner of the dataset"
    return ""


def _others_write(status: os.stat_result) -> bool:
    """Whether other users may change it; a sticky folder does not count: they may add to it, but replace nothing."""
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return bool(status.st_mode & _WRITABLE) and not sticky


def _between(root: Path, folder: Path) -> list[Path]:
    """Return the folders above a store, up to and including the cache's `root`."""
    return [level for level in folder.parents if level == root or root in level.parents]


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    for where, folders, files in os.walk(folder, onerror=_raise):
        yield from (Path(where, name) for name in (*folders, *files))


def _raise(error: OSError) -> None:
    raise error
