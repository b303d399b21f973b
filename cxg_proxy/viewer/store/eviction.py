"""How much room a store needs, how much there is, and which stores give way to a new one."""

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

MANIFEST = "store.json"  # when it was touched tells when a store was used last
USUAL_BYTES = 50_000_000_000
UNLOCKABLE_SECONDS = 7 * 86_400.0  # where nothing can be locked, a store that was used since may be in use

_MARGIN_BYTES = 16_000_000  # a disk is never filled to its last block
_log = logging.getLogger(__name__)


def usual_limit(cache: Path) -> int:
    """How many bytes the stores of a cache take at most where nobody says: 50 GB, or half of what they could have."""
    return min(USUAL_BYTES, (free(cache) + sum(kept.bytes for kept in stores(cache / "stores"))) // 2)


def free(folder: Path) -> int:
    """The bytes that may still be written on the disk that a folder lies on, or will lie on."""
    there = next(
        level for level in (folder, *folder.parents) if os.path.exists(level)
    )  # `exists` of a path raises where nobody may look
    return free_bytes(there)


def estimate(source: str, layer: str | None) -> int:
    """About how many bytes a store of this file will take: of what the file holds, only what a store does."""
    size = os.stat(source).st_size
    try:
        with h5py.File(source, "r", locking=False) as file:
            found = find(file, layer, source)
            return _MARGIN_BYTES + _laid_out(found) + metadata_file.estimate(file, found, source)
    except (*h5ad.ERRORS, Problem):  # whoever builds the store will say what is wrong
        return _MARGIN_BYTES + size


def _laid_out(found: Source) -> int:
    cells, genes = found.shape
    if found.kind == "dense":
        return cells * genes * found.dtype.itemsize
    values: int = found.place["data"].size
    return values * (found.dtype.itemsize + 4) + 8 * (genes + 1)  # an int32 for each value


@dataclass(frozen=True)
class CachedStore:
    """A store on the disk."""

    folder: Path
    bytes: int
    used: float  # seconds since the epoch


def stores(folder: Path) -> list[CachedStore]:
    """All stores in a folder, the least recently used first."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # it may go at any moment
                if path.is_dir() and "." not in path.name:
                    found.append(CachedStore(path, size(path), _used(path)))
    return sorted(found, key=lambda kept: kept.used)


def _used(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return (folder / MANIFEST).stat().st_mtime
    return 0.0


def size(folder: Path) -> int:
    """The bytes of all files below a folder."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(where, name)).st_size
    return total


def hold(folder: Path, *, locked_too: bool = False) -> int:
    """Mark a store as in use until the descriptor that is returned is closed; OSError if it is not there, or going.

    Nobody who evicts stores takes it away meanwhile, as far as this file system knows locks. With `locked_too` it is
    used even if somebody keeps its lock for themselves, as everybody can who may read it.
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
    """Have a share of the lock; who looks whether it is in use, or takes it away, has it whole for an instant."""
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
        except OSError:  # not on this file system
            return
        else:
            return


def mark_used(folder: Path) -> None:
    """Remember that a store was used now, if it is ours to mark."""
    with contextlib.suppress(OSError):
        os.utime(folder / MANIFEST)


def evict(folder: Path) -> bool:
    """Remove a store unless it is in use; whether it is gone."""
    with _unused(folder) as unused:
        return unused and remove(folder)


def in_use(folder: Path) -> bool:
    """Whether somebody uses a store now."""
    with _unused(folder) as unused:
        return not unused


def remove(folder: Path) -> bool:
    """Remove a store at once for all who look for it, in use or not; whether it is gone."""
    away = folder.with_name(f"{folder.name}.{os.urandom(8).hex()}.part")  # whoever is killed here, others clear up
    try:
        folder.rename(away)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    delete_tree(away)
    return True


def delete_tree(path: Path) -> None:
    """Remove a folder with all in it, or whatever else is there under this name, as far as that can be done."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    try:
        manifest = os.open(folder / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True  # nobody could open it
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
    except OSError:  # not on this file system (NFS wants a file open for writing)
        return time.time() - os.fstat(manifest).st_mtime > UNLOCKABLE_SECONDS
    return True
