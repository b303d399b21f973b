"""The eviction of stores: the room a new store needs, the room there is, and the stores that are not in use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from cxg_proxy.errors import Problem
from cxg_proxy.files.space import free_bytes
from cxg_proxy.viewer.source import h5ad
from cxg_proxy.viewer.source.matrix import Source, find

from . import metadata_file
from .origin import Origin

MANIFEST = "store.json"  # its modification time is when the store was last used
USUAL_BYTES = 50_000_000_000
UNLOCKABLE_SECONDS = 7 * 86_400.0  # where files cannot be locked, a store used within this time counts as in use

_MARGIN_BYTES = 16_000_000  # added to every estimate, so that a disk is never filled to its last block
_log = logging.getLogger(__name__)


def usual_limit(cache: Path) -> int:
    """Return the default limit, in bytes, of the stores in a cache: 50 GB, or half of what they hold and is free."""
    return min(USUAL_BYTES, (free(cache) + sum(store.bytes for store in stores(cache / "stores"))) // 2)


def free(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    existing = next(
        level for level in (folder, *folder.parents) if os.path.exists(level)
    )  # unlike this, `Path.exists` raises where the folder may not be searched
    return free_bytes(existing)


def estimate(origin: Origin) -> int:
    """Estimate the bytes that the store of this origin will take.

    Only what a store holds counts; for a file that cannot be read it is the file's size. Raises OSError if there is no
    such file.
    """
    size = os.stat(origin.path).st_size
    try:
        with h5py.File(origin.path, "r", locking=False) as file:
            source = find(file, origin.layer, origin.path)
            return _MARGIN_BYTES + _laid_out(source) + metadata_file.estimate(file, source, origin.path)
    except (*h5ad.ERRORS, Problem):  # the build will report what is wrong
        return _MARGIN_BYTES + size


def _laid_out(source: Source) -> int:
    cells, genes = source.shape
    if source.kind == "dense":
        return cells * genes * source.dtype.itemsize
    values: int = source.place["data"].size
    return values * (source.dtype.itemsize + 4) + 8 * (genes + 1)  # an int32 for each value


@dataclass(frozen=True)
class CachedStore:
    """A store on the disk, with its size and the time of its last use."""

    folder: Path
    bytes: int
    used: float  # seconds since the epoch


def stores(folder: Path) -> list[CachedStore]:
    """Return all stores in a folder, the least recently used first."""
    cached = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # it may be removed at any moment
                if path.is_dir() and "." not in path.name:
                    cached.append(CachedStore(path, size(path), _used(path)))
    return sorted(cached, key=lambda store: store.used)


def _used(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return (folder / MANIFEST).stat().st_mtime
    return 0.0


def size(folder: Path) -> int:
    """Return the total size in bytes of all files below a folder."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total


def hold(folder: Path, *, locked_too: bool = False) -> int:
    """Mark a store as in use until the returned descriptor is closed.

    Where the file system has locks, no process evicts the store meanwhile. With `locked_too` the store is used even if
    another user holds its lock exclusively, as anyone who may read it can. Raises OSError if the store does not exist
    or is being removed.
    """
    manifest = os.open(folder / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _share(manifest, folder, locked_too=locked_too)
        here = os.path.samestat(os.stat(folder / MANIFEST), os.fstat(manifest))
    except OSError:
        os.close(manifest)
        raise
    if not here:
        os.close(manifest)
        raise FileNotFoundError(errno.ENOENT, "it has just been replaced", str(folder))
    return manifest


def _share(manifest: int, folder: Path, *, locked_too: bool) -> None:
    """Take a shared lock, retrying, since a process that checks or evicts the store locks it exclusively for a moment.

    Raises BlockingIOError if the lock stays taken, unless `locked_too`.
    """
    for patience in (0.01, 0.05, 0.2, 0.0 if locked_too else 0.8, 0.0):
        try:
            fcntl.flock(manifest, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if not patience and locked_too:
                _log.warning("Somebody keeps a lock on %s; it is used all the same", folder / MANIFEST)
                return
            if not patience:
                raise
            time.sleep(patience)
        except OSError:  # this file system has no locks
            return
        else:
            return


def mark_used(folder: Path) -> None:
    """Record that a store was used now, if its files may be changed."""
    with contextlib.suppress(OSError):
        os.utime(folder / MANIFEST)


def evict(folder: Path) -> bool:
    """Remove a store unless it is in use; return whether it is gone."""
    with _unused(folder) as unused:
        return unused and remove(folder)


def in_use(folder: Path) -> bool:
    """Whether any process uses a store now."""
    with _unused(folder) as unused:
        return not unused


def remove(folder: Path) -> bool:
    """Remove a store, in use or not, so that no process finds it any more; return whether it is gone."""
    away = folder.with_name(f"{folder.name}.{os.urandom(8).hex()}.part")  # builders remove it if this process is killed
    try:
        folder.rename(away)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    delete_tree(away)
    return True


def delete_tree(path: Path) -> None:
    """Remove a folder and its content, or a file of this name, as far as possible."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    try:
        manifest = os.open(folder / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # without a manifest no process can open the store
        return
    except OSError:
        yield False
        return
    try:
        yield _alone(manifest)
    finally:
        os.close(manifest)


def _alone(manifest: int) -> bool:
    try:
        fcntl.flock(manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no such lock (NFS requires a file open for writing)
        return time.time() - os.fstat(manifest).st_mtime > UNLOCKABLE_SECONDS
    return True
