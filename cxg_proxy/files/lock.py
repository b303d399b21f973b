"""A lock for one writer at a time, on network homes too: a file that names its holder, plus `flock` where it works.

`locked` waits for the lock of a whole folder. A caller that has other work to do while it waits takes a named lock with
`Attempts`, and keeps it with `keep_alive`.
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
STALE_SECONDS = 10.0  # less than the patience, so that waiting for a vanished holder succeeds in the end
ABANDONED_SECONDS = 600.0  # a lock not touched for this long has no living holder

_BEAT_SECONDS = 2.0
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LockTaken(Exception):
    """Another process holds the lock, and did not release it in time."""


class Lock:
    """One writer's lock on an open folder, or on something named in it."""

    def __init__(self, folder: int, name: str = NAME):
        self.folder, self.name = folder, name
        self.token = secrets.token_hex(8)
        self._content = json.dumps({**_here(), "token": self.token}).encode()

    def check(self) -> None:
        """Raise LockTaken if another process took the lock because this writer seemed dead (on a laptop that slept)."""
        if _token(_seen(self.folder, self.name)) != self.token:
            raise LockTaken("another server took over while this one did not answer")

    def take(self) -> bool:
        """Create our lock file unless there is one; returns whether it is in place.

        It is made as a hard link, which is reliable on NFS and never seen half-written.
        """
        temporary = f"{self.name}.{self.token}"
        atomic.create(self.folder, temporary, self._content, durable=False)
        try:
            os.link(temporary, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except FileExistsError:
            # NFS may repeat a request whose reply was lost, and then report a link that succeeded as a failure.
            return os.stat(temporary, dir_fd=self.folder).st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._take_without_links()
        finally:
            atomic.remove(self.folder, temporary)
        return True

    def _take_without_links(self) -> bool:
        try:
            atomic.create(self.folder, self.name, self._content, durable=False)
        except FileExistsError:
            return False
        return True

    def beat(self, done: threading.Event) -> None:
        """Touch the lock file at intervals, to show that its holder is alive, until `done` is set."""
        while not done.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError, LockTaken):
                self.check()
                os.utime(self.name, dir_fd=self.folder, follow_symlinks=False)

    def give_back(self) -> None:
        """Release the lock: remove its file, if it is still ours."""
        with contextlib.suppress(OSError, LockTaken):
            self.check()
            os.unlink(self.name, dir_fd=self.folder)


class Attempts:
    """Repeated attempts to take a lock; a holder that has died, or is silent for too long, loses it."""

    def __init__(self, lock: Lock, stale: float = STALE_SECONDS):
        self._lock, self._stale = lock, stale
        self._before: Seen | None = None
        self._since = time.monotonic()
        self.stuck = False  # the holder is dead, but we may not remove its lock

    def acquire(self) -> bool:
        """Try once; returns whether the lock is ours now."""
        folder, name = self._lock.folder, self._lock.name
        while (seen := _seen(folder, name)) is not None:
            if seen != self._before:
                self._before, self._since = seen, time.monotonic()
            # Measured by our own clock, not by the file's times: the clocks of two machines differ.
            silent = time.monotonic() - self._since > self._stale
            if not (_ended(seen) or silent):
                return False
            self.stuck = not _break(folder, name, seen)
            if self.stuck:
                return False
        return self._lock.take()

    def holder(self) -> str:
        """Describe the holder in words."""
        return _holder(self._before)


@contextlib.contextmanager
def keep_alive(lock: Lock) -> Iterator[Lock]:
    """Show at intervals that the holder of a taken lock is alive, and release the lock at the end."""
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
    """Remove the lock of a holder that is certainly dead; returns whether no lock is left.

    `now_ns` is the time of the disk, in nanoseconds.
    """
    seen = _seen(folder, name)
    if seen is None:
        return True
    return (_ended(seen) or now_ns - seen[2] > ABANDONED_SECONDS * 1e9) and _break(folder, name, seen)


@contextlib.contextmanager
def locked(folder: int, *, patience: float = PATIENCE_SECONDS, stale: float = STALE_SECONDS) -> Iterator[Lock]:
    """Hold the lock of an open folder; raises LockTaken if it cannot be had within `patience` seconds."""
    end = time.monotonic() + patience
    with _flocked(folder, end):
        lock = Lock(folder)
        attempts = Attempts(lock, stale)
        for pause in _pauses(end):
            if attempts.acquire():
                break
            pause(attempts.holder())
        with keep_alive(lock):
            yield lock


@contextlib.contextmanager
def _flocked(folder: int, end: float) -> Iterator[None]:
    descriptor = os.open(
        ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder
    )  # a new one: flock belongs to the opened file
    try:
        for pause in _pauses(end):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pause(_holder(_seen(folder, NAME)))
            except OSError:  # unsupported on this file system (NFS wants a file that is open for writing)
                break
        yield
    finally:
        os.close(descriptor)


def _pauses(end: float) -> Iterator[Any]:
    """Yield a function that sleeps, longer each time, and raises LockTaken after `end`."""
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
    """Return the content, inode and modification time of a lock file, or None if there is none.

    The file is opened anew each time, because only then does NFS ask the server again.
    """
    content = b""
    with contextlib.suppress(OSError):
        content = atomic.read(folder, name, limit=4096)
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return (content, status.st_ino, status.st_mtime_ns)
    return None


def _content(seen: Seen | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        content = json.loads(seen[0] if seen else b"{}")
        return content if isinstance(content, dict) else {}
    return {}


def _token(seen: Seen | None) -> str:
    return str(_content(seen).get("token", ""))


def _holder(seen: Seen | None) -> str:
    content = _content(seen)
    return (
        f"process {content['pid']} on {content['host']}"
        if {"pid", "host"} <= content.keys()
        else "it does not say which"
    )


def _break(folder: int, name: str, stale: Seen) -> bool:
    """Remove the lock file of a dead holder; returns False if we may not.

    Of several processes that try, one succeeds. A new lock that was taken away by mistake is put back. In a folder like
    /tmp, users may remove only their own files.
    """
    away = f"{name}.{secrets.token_hex(8)}"
    try:
        os.rename(name, away, src_dir_fd=folder, dst_dir_fd=folder)
        moved = _seen(folder, away)
        if moved and moved[0] != stale[0]:
            os.link(away, name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileNotFoundError:
        return True  # another process was faster
    except OSError:
        return False
    finally:
        atomic.remove(folder, away)
    return True


def _here() -> dict[str, Any]:
    """Identify this process; a pid is valid only within one boot of one machine and one container."""
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
    """Return the start time of a process; "" if it is unknown, or if the process is a zombie."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
        state, *rest = file.read().rpartition(b")")[2].split()
        return "" if state in b"ZX" else rest[18].decode()
    return ""


def _ended(seen: Seen) -> bool:
    """Whether the holder ran on this machine and has certainly ended."""
    content, here = _content(seen), _machine()
    pid = content.get("pid")
    if not isinstance(pid, int) or pid <= 0 or any(content.get(name) != value for name, value in here.items()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _started(pid) != content.get("started")
