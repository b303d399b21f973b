"""The claim of one process to build a store, with its progress for the processes that wait for the store."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cxg_proxy.errors import StoreNotWritten
from cxg_proxy.files import atomic, lock
from cxg_proxy.viewer.progress import Cancelled, Report

from . import eviction

SILENT_SECONDS = 60.0  # a builder on another machine that shows no activity for this long counts as dead

_STORE, _PROGRESS = "store", "progress"  # in the folder of a site
_CHECK_SECONDS = 5.0
_POLL_SECONDS = 0.2
_PART = re.compile(r"([0-9a-f]+)\.([0-9a-f]+)\.part")
_LOCK = re.compile(r"([0-9a-f]+)\.lock")


class Site:
    """The folder where one store is built; `store` is the empty folder inside for the store itself."""

    def __init__(self, folder: Path, claim: lock.Lock, needed: int, *, open_to_all: bool):
        self.store = folder / _STORE
        self._folder, self._claim, self._needed = folder, claim, needed
        self._mode = 0o644 if open_to_all else 0o600
        self._checked = 0.0
        self._lost = False

    def write_progress(self, done: float) -> None:
        """Write the share that is done to the disk."""
        # It is not flushed: after a power cut no process waits for this builder any more.
        temporary = self._folder / f"{_PROGRESS}.new"
        with contextlib.suppress(OSError):  # a full disk stops the builder soon enough
            temporary.write_text(json.dumps({"done": done, "bytes": self._needed}), encoding="ascii")
            temporary.chmod(self._mode)
            temporary.replace(self._folder / _PROGRESS)

    def lost(self) -> bool:
        """Whether another builder took this one for dead and took over; checked at most every 5 s."""
        if not self._lost and time.monotonic() > self._checked + _CHECK_SECONDS:
            self._checked = time.monotonic()
            self._lost = self.is_lost()
        return self._lost

    def is_lost(self) -> bool:
        """Whether another builder has taken over, checked on the disk now."""
        try:
            self._claim.check()
        except lock.LockTaken:
            return True
        return False


class Claim:
    """One builder's claim to build one store; `descriptor` is the open folder of the cache's stores."""

    def __init__(self, folder: Path, descriptor: int, fingerprint: str, *, open_to_all: bool = False):
        self._folder, self._descriptor, self._fingerprint = folder, descriptor, fingerprint
        self._open = open_to_all
        self._lock = lock.Lock(descriptor, f"{fingerprint}.lock")
        self._attempts = lock.Attempts(self._lock, SILENT_SECONDS)

    def wait(self, report: Report, cancelled: Callable[[], bool]) -> None:
        """Wait until the claim is granted, reporting the progress of the process that builds meanwhile.

        Raises Cancelled, or StoreNotWritten if the claim can never be granted.
        """
        last = -1.0
        while not self.granted():
            if cancelled():
                raise Cancelled
            if obstacle := self.obstacle():
                raise StoreNotWritten(detail=obstacle)
            done = self.progress()
            if done != last:
                last = done
                report(done)
            time.sleep(_POLL_SECONDS)

    def granted(self) -> bool:
        """Whether this process may build now; if so, `held` must follow."""
        return self._attempts.acquire()

    def obstacle(self) -> str:
        """Return why the claim can never be granted (a dead builder's lock that only its owner can remove), or ""."""
        if not self._attempts.stuck:
            return ""
        return f"{self._folder / self._lock.name} was left by {self._attempts.holder()}, and is not yours to remove"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the claim as long as the block lasts."""
        with lock.keep_alive(self._lock):
            yield

    def progress(self) -> float:
        """Return the share that the building process has done, from 0 to 1; 0 where that is unknown."""
        shares = (_progress(part)[0] for part in _parts(self._folder, self._fingerprint))
        return max(shares, default=0.0)

    @contextlib.contextmanager
    def site(self, needed: int) -> Iterator[Site]:
        """Create a folder to build in, removed after the block; the remains of dead builders are removed first."""
        self._clear()
        folder = self._folder / f"{self._fingerprint}.{self._lock.token}.part"
        folder.mkdir(mode=0o700)
        try:
            folder.chmod(0o711 if self._open else 0o700)  # others may read the progress file, whose name they know
            (folder / _STORE).mkdir(mode=0o700)
            yield Site(folder, self._lock, needed, open_to_all=self._open)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def promised(self) -> tuple[int, int]:
        """Return the total bytes of the stores that others build now, and how many of these are still to be written."""
        others = (part for part in _parts(self._folder) if not part.name.startswith(self._fingerprint))
        reports = [_progress(part) for part in others]
        return sum(needed for _, needed in reports), sum(int((1 - done) * needed) for done, needed in reports)

    def _clear(self) -> None:
        """Remove the remains of dead builders: every part of this store, whose lock is held here, and lockless parts.

        A store that another process is evicting has no lock either; removing it here does no harm.
        """
        now = os.stat(self._lock.name, dir_fd=self._descriptor).st_mtime_ns
        names = os.listdir(self._descriptor)  # before the locks are checked, which are created first and removed last
        for name in names:
            part, lock_file = _PART.fullmatch(name), _LOCK.match(name)
            if part and (part[1] == self._fingerprint or self._dead(part[1], now)):
                eviction.delete_tree(self._folder / name)
            elif lock_file and lock_file[1] != self._fingerprint and lock_file[0] == name:
                self._dead(lock_file[1], now)
        atomic.remove_abandoned(self._descriptor, (name for name in names if ".lock." in name))

    def _dead(self, fingerprint: str, now: int) -> bool:
        return lock.clear_dead(self._descriptor, f"{fingerprint}.lock", now)


def _parts(folder: Path, fingerprint: str = "") -> list[Path]:
    with contextlib.suppress(OSError):
        matches = ((path, _PART.fullmatch(path.name)) for path in folder.iterdir())
        return [path for path, part in matches if part and fingerprint in ("", part[1])]
    return []


def _progress(part: Path) -> tuple[float, int]:
    """Return the share that is done and the bytes that are needed, (0, 0) where they are unknown."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(part / _PROGRESS, flags), "rb") as file:
            data = json.loads(file.read(1000))
        return min(1.0, max(0.0, float(data["done"]))), max(0, int(data["bytes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 0
