"""One writer at a time, on network homes too: a file that names its holder, and `flock` where it works.

`locked` waits for the lock of a whole folder. Who has something to do meanwhile takes a named one with `Attempts`, and
keeps it with `kept`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import atomic

NAME = ".lock"
PATIENCE_SECONDS = 15.0
STALE_SECONDS = 10.0  # less than the patience: who waits for a holder that has vanished gets the lock in the end
ABANDONED_SECONDS = 600.0  # a lock that nobody has touched for so long has no holder any more

_BEAT_SECONDS = 2.0
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LockTaken(Exception):
    """Somebody else has the lock, and did not give it back in time."""


class Lock:
    """The lock of one open folder, or of one thing in it, for one writer."""

    def __init__(self, folder: int, name: str = NAME):
        self.folder, self.name = folder, name
        self.token = secrets.token_hex(8)
        self._content = json.dumps({**_here(), "token": self.token}).encode()

    def check(self) -> None:
        """Raise Taken when others thought this writer dead (a laptop that slept) and took the lock."""
        if _token(_seen(self.folder, self.name)) != self.token:
            raise LockTaken("another server took over while this one did not answer")

    def take(self) -> bool:
        """Put our file in place if nobody's is; a link tells the truth on NFS, and is never seen half-written."""
        beside = f"{self.name}.{self.token}"
        atomic.create(self.folder, beside, self._content, durable=False)
        try:
            os.link(beside, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except FileExistsError:
            # NFS may repeat a request whose answer was lost, and then report its own success as a failure.
            return os.stat(beside, dir_fd=self.folder).st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._take_without_links()
        finally:
            atomic.remove(self.folder, beside)
        return True

    def _take_without_links(self) -> bool:
        try:
            atomic.create(self.folder, self.name, self._content, durable=False)
        except FileExistsError:
            return False
        return True

    def beat(self, done: threading.Event) -> None:
        """Show at intervals that we are alive, until `done`."""
        while not done.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError, LockTaken):
                self.check()
                os.utime(self.name, dir_fd=self.folder, follow_symlinks=False)

    def give_back(self) -> None:
        """Remove our file, if it is still ours."""
        with contextlib.suppress(OSError, LockTaken):
            self.check()
            os.unlink(self.name, dir_fd=self.folder)


class Attempts:
    """Tries to take a lock, as often as it is asked: a holder that has died, or is silent for too long, loses it."""

    def __init__(self, lock: Lock, stale: float = STALE_SECONDS):
        self._lock, self._stale = lock, stale
        self._before: Seen | None = None
        self._since = time.monotonic()
        self.stuck = False  # its holder is dead, but it is not ours to take away

    def taken(self) -> bool:
        """Whether it is ours now."""
        folder, name = self._lock.folder, self._lock.name
        while (seen := _seen(folder, name)) is not None:
            if seen != self._before:
                self._before, self._since = seen, time.monotonic()
            # By our own clock, not the file's: the clocks of two machines differ.
            silent = time.monotonic() - self._since > self._stale
            if not (_ended(seen) or silent):
                return False
            self.stuck = not _break(folder, name, seen)
            if self.stuck:
                return False
        return self._lock.take()

    def holder(self) -> str:
        """Who has it, in words."""
        return _holder(self._before)


@contextlib.contextmanager
def kept(lock: Lock) -> Iterator[Lock]:
    """Show at intervals that a lock which was taken has a living holder, and give it back at the end."""
    done = threading.Event()
    beating = threading.Thread(target=lock.beat, args=(done,), daemon=True, name="lock")
    beating.start()
    try:
        yield lock
    finally:
        done.set()
        beating.join()
        lock.give_back()


def clear_dead(folder: int, name: str, now_ns: int) -> bool:
    """Take away the lock of a holder that is certainly dead; whether none is left. `now_ns` is the disk's time."""
    seen = _seen(folder, name)
    if seen is None:
        return True
    return (_ended(seen) or now_ns - seen[2] > ABANDONED_SECONDS * 1e9) and _break(folder, name, seen)


@contextlib.contextmanager
def locked(folder: int, *, patience: float = PATIENCE_SECONDS, stale: float = STALE_SECONDS) -> Iterator[Lock]:
    """Be the only writer in an open folder; raises Taken when that cannot be had within `patience` seconds."""
    end = time.monotonic() + patience
    with _flocked(folder, end):
        lock = Lock(folder)
        attempts = Attempts(lock, stale)
        for pause in _pauses(end):
            if attempts.taken():
                break
            pause(attempts.holder())
        with kept(lock):
            yield lock


@contextlib.contextmanager
def _flocked(folder: int, end: float) -> Iterator[None]:
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)  # its own: flock belongs to the opened file
    try:
        for pause in _pauses(end):
            try:
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause(_holder(_seen(folder, NAME)))
            except OSError:  # not on this file system (NFS wants a file open for writing)
                break
        yield
    finally:
        os.close(own)


def _pauses(end: float) -> Iterator[Any]:
    """Yield a function that sleeps, each time longer, and raises Taken at the end."""
    seconds = 0.005

    def pause(holder: str) -> None:
        if time.monotonic() > end:
            raise LockTaken(f"another server of yours is saving to the same folder: {holder}")
        time.sleep(seconds)

    while True:
        yield pause
        seconds = min(seconds * 1.5, 0.25)


Seen = tuple[bytes, int, int]


def _seen(folder: int, name: str) -> Seen | None:
    """What a lock file says, and when it was last touched; opened anew each time, for NFS looks again only then."""
    content = b""
    with contextlib.suppress(OSError):
        content = atomic.read(folder, name, limit=4096)
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return (content, status.st_ino, status.st_mtime_ns)
    return None


def _said(seen: Seen | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        said = json.loads(seen[0] if seen else b"{}")
        return said if isinstance(said, dict) else {}
    return {}


def _token(seen: Seen | None) -> str:
    return str(_said(seen).get("token", ""))


def _holder(seen: Seen | None) -> str:
    said = _said(seen)
    return f"process {said['pid']} on {said['host']}" if {"pid", "host"} <= said.keys() else "it does not say which"


def _break(folder: int, name: str, stale: Seen) -> bool:
    """Take a dead holder's file away. One of several that try gets it; a fresh one taken by mistake goes back.

    False if that may not be done here: in a folder like /tmp everybody removes only what is their own.
    """
    away = f"{name}.{secrets.token_hex(8)}"
    try:
        os.rename(name, away, src_dir_fd=folder, dst_dir_fd=folder)
        taken = _seen(folder, away)
        if taken and taken[0] != stale[0]:
            os.link(away, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return True  # somebody else was faster
    except OSError:
        return False
    finally:
        atomic.remove(folder, away)
    return True


def _here() -> dict[str, Any]:
    """Which process this is: numbers mean something only within one start of one machine and one container."""
    pid = os.getpid()
    return {**_machine(), "pid": pid, "started": _started(pid)}


def _machine() -> dict[str, str]:
    boot = namespace = ""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return {"host": os.uname().nodename, "boot": boot, "namespace": namespace}


def _started(pid: int) -> str:
    """When a process began; "" if that cannot be known, or if it has ended and only its parent does not know yet."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        state, *rest = file.read().rpartition(b")")[2].split()
        return "" if state in b"ZX" else rest[18].decode()
    return ""


def _ended(seen: Seen) -> bool:
    """Whether the holder ran on this very machine and runs no more."""
    said, here = _said(seen), _machine()
    pid = said.get("pid")
    if not isinstance(pid, int) or pid <= 0 or any(said.get(name) != value for name, value in here.items()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _started(pid) != said.get("started")
