"""The building site of a store: one for each dataset, with the builder's progress for all who wait for it to read."""

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
from cxg_proxy.viewer.progress import Cancelled

from . import eviction

SILENT_SECONDS = 60.0  # a builder on another machine that shows no life for so long has gone

_STORE, _PROGRESS = "store", "progress"  # in the folder of a site
_TOLD_SECONDS = 0.3
_CHECK_SECONDS = 5.0
_POLL_SECONDS = 0.2
_PART = re.compile(r"([0-9a-f]+)\.([0-9a-f]+)\.part")
_LOCK = re.compile(r"([0-9a-f]+)\.lock")


class Site:
    """Where one store is built; `store` is the empty folder for it."""

    def __init__(self, folder: Path, claim: lock.Lock, needed: int, *, open_to_all: bool):
        self.store = folder / _STORE
        self._folder, self._claim, self._needed = folder, claim, needed
        self._mode = 0o644 if open_to_all else 0o600
        self._told = self._checked = 0.0
        self._lost = False

    def tell(self, done: float) -> None:
        """Write down the share that is done, if it has not just been written."""
        if self._told and time.monotonic() < self._told + _TOLD_SECONDS:
            return
        self._told = time.monotonic()
        # Not flushed to the disk: after a power cut nobody waits for this builder any more.
        beside = self._folder / f"{_PROGRESS}.new"
        with contextlib.suppress(OSError):  # a full disk stops the builder soon enough
            beside.write_text(json.dumps({"done": done, "bytes": self._needed}), encoding="ascii")
            beside.chmod(self._mode)
            beside.replace(self._folder / _PROGRESS)

    def lost(self) -> bool:
        """Whether others thought this builder dead and took over."""
        if not self._lost and time.monotonic() > self._checked + _CHECK_SECONDS:
            self._checked = time.monotonic()
            self._lost = self.is_lost()
        return self._lost

    def is_lost(self) -> bool:
        """The same, asked of the disk at once."""
        try:
            self._claim.check()
        except lock.LockTaken:
            return True
        return False


class Claim:
    """One builder's wish to build one store in the open folder of a cache's stores."""

    def __init__(self, folder: Path, descriptor: int, fingerprint: str, *, open_to_all: bool = False):
        self._folder, self._descriptor, self._fingerprint = folder, descriptor, fingerprint
        self._open = open_to_all
        self._lock = lock.Lock(descriptor, f"{fingerprint}.lock")
        self._attempts = lock.Attempts(self._lock, SILENT_SECONDS)

    def wait(self, report: Callable[[float], None], cancelled: Callable[[], bool]) -> None:
        """Until it is granted, hearing the progress of those who build; raises Cancelled, StoreNotWritten."""
        told = -1.0
        while not self.granted():
            if cancelled():
                raise Cancelled
            if obstacle := self.obstacle():
                raise StoreNotWritten(detail=obstacle)
            done = self.progress()
            if done != told:
                told = done
                report(done)
            time.sleep(_POLL_SECONDS)

    def granted(self) -> bool:
        """Whether it is ours to build now; then `held` must follow."""
        return self._attempts.taken()

    def obstacle(self) -> str:
        """What keeps it from ever being granted: the lock of a dead builder that only its owner can remove; or ""."""
        if not self._attempts.stuck:
            return ""
        return f"{self._folder / self._lock.name} was left by {self._attempts.holder()}, and is not yours to remove"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep it as long as the block lasts."""
        with lock.kept(self._lock):
            yield

    def progress(self) -> float:
        """The share that is done by the one who builds, as far as it is known."""
        said = (_progress(part)[0] for part in _parts(self._folder, self._fingerprint))
        return max(said, default=0.0)

    @contextlib.contextmanager
    def site(self, needed: int) -> Iterator[Site]:
        """A place to build in, as long as the block lasts; what dead builders left is cleared away first."""
        self._clear()
        folder = self._folder / f"{self._fingerprint}.{self._lock.token}.part"
        folder.mkdir(mode=0o700)
        try:
            folder.chmod(0o711 if self._open else 0o700)  # others read the progress, of which they know the name
            (folder / _STORE).mkdir(mode=0o700)
            yield Site(folder, self._lock, needed, open_to_all=self._open)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def promised(self) -> tuple[int, int]:
        """The bytes of the stores that others build now, whole, and those of them that are still to be written."""
        others = (part for part in _parts(self._folder) if not part.name.startswith(self._fingerprint))
        found = [_progress(part) for part in others]
        return sum(needed for _, needed in found), sum(int((1 - done) * needed) for done, needed in found)

    def _clear(self) -> None:
        """Remove what builders left that are dead: all of this store, for its lock is ours, and those without a lock.

        What is being taken away by somebody who evicts stores has no lock either, and nobody minds the help.
        """
        now = os.stat(self._lock.name, dir_fd=self._descriptor).st_mtime_ns
        names = os.listdir(self._descriptor)  # before the locks are looked at, which come first and go last
        for name in names:
            part, beside = _PART.fullmatch(name), _LOCK.match(name)
            if part and (part[1] == self._fingerprint or self._dead(part[1], now)):
                eviction.delete_tree(self._folder / name)
            elif beside and beside[1] != self._fingerprint and beside[0] == name:
                self._dead(beside[1], now)
        atomic.remove_abandoned(self._descriptor, (name for name in names if ".lock." in name))

    def _dead(self, fingerprint: str, now: int) -> bool:
        return lock.clear_dead(self._descriptor, f"{fingerprint}.lock", now)


def _parts(folder: Path, fingerprint: str = "") -> list[Path]:
    with contextlib.suppress(OSError):
        found = ((path, _PART.fullmatch(path.name)) for path in folder.iterdir())
        return [path for path, part in found if part and fingerprint in ("", part[1])]
    return []


def _progress(part: Path) -> tuple[float, int]:
    """The share that is done and the bytes that are needed, (0, 0) where that is not known."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(part / _PROGRESS, flags), "rb") as file:
            said = json.loads(file.read(1000))
        return min(1.0, max(0.0, float(said["done"]))), max(0, int(said["bytes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, 0
