"""The copies of datasets at remote addresses, as files in the cache: whole ones, parts, and what each is a copy of.

All of this touches the disk and is called in threads; the network is `transfer`'s, and `remote` brings both together.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from tornado.httputil import HTTPHeaders

from cxg_proxy.files.atomic import write_whole

ABANDONED_SECONDS = 7 * 86400.0


@dataclass(frozen=True)
class RemoteVersion:
    """What tells one content of an address from another."""

    place: str = ""
    etag: str = ""
    modified: str = ""
    length: int | None = None

    @staticmethod
    def of(address: str, headers: HTTPHeaders, length: int | None) -> RemoteVersion:
        """What a reply says of its content. A signature in the query changes from day to day and is left out."""
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        return RemoteVersion(
            _place(address if not (etag or modified) else address.partition("?")[0]), etag, modified, length
        )

    @property
    def strong(self) -> str:
        """What a server can be asked to continue by: it changes with every byte."""
        return self.modified if self.etag.startswith("W/") else self.etag or self.modified

    def at(self, address: str) -> bool:
        """Whether the server of this address can be asked after it."""
        return bool(self.etag or self.modified) and self.place == _place(address.partition("?")[0])

    def same(self, other: RemoteVersion) -> bool:
        """Whether both are the same content, as far as can be known."""
        if self.place != other.place or (None not in (self.length, other.length) and self.length != other.length):
            return False
        for mine, theirs in ((self.etag, other.etag), (self.modified, other.modified)):
            if mine and theirs:
                return mine.removeprefix("W/") == theirs.removeprefix("W/")
        return self.length is not None and self.length == other.length


def _place(address: str) -> str:
    return hashlib.blake2b(address.encode(), digest_size=16).hexdigest()


class Copy:
    """The files of one remote dataset: the whole copy, the part that will become it, and beside each its version."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.part = file.with_name(f"{file.name}.part")

    def lock(self) -> IO[bytes] | None:
        """Be the only one who downloads until this is closed, or the process ends however it ends; None: another is."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open(self.file.with_name(f"{self.file.name}.lock"), "ab")  # noqa: SIM115 - held beyond this function
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as reason:
            lock.close()
            if isinstance(reason, BlockingIOError):
                return None
            raise
        return lock

    def look(self) -> tuple[RemoteVersion | None, RemoteVersion, int]:
        """The version of the copy, None if there is none; that of the part, and how much of it there is."""
        version, size = _version(self.part), _size(self.part)
        if size and size == version.length:  # killed before it could be named
            self.finish()
            version, size = RemoteVersion(), 0
        return _version(self.file) if self.file.exists() else None, version, size

    def share(self) -> float | None:
        """How much of it is there, None where that cannot be known."""
        return share(_size(self.part), _version(self.part).length)

    def begin(self, start: int, version: RemoteVersion) -> None:
        """Have a part of `start` bytes. Its version is written last: it must never speak of older bytes."""
        with open(os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as part:
            part.truncate(start)
        write_whole(_beside(self.part), json.dumps(asdict(version)).encode())

    def write(self, start: int, piece: bytes) -> None:
        """Write a piece of the part."""
        with open(self.part, "r+b") as part:
            part.seek(start)
            part.write(piece)

    def finish(self) -> None:
        """The part is whole: it replaces the copy in one step."""
        with open(self.part, "r+b") as part:
            os.fsync(part.fileno())
        os.replace(self.part, self.file)
        os.replace(_beside(self.part), _beside(self.file))


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _version(file: Path) -> RemoteVersion:
    try:
        return RemoteVersion(**json.loads(_beside(file).read_bytes()))
    except (OSError, ValueError, TypeError):
        return RemoteVersion()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def share(size: int, length: int | None) -> float | None:
    """How much of it is there, None where that cannot be known."""
    return min(1.0, size / length) if length else None


def sweep(folder: Path, now: float) -> None:
    """Remove what killed downloads left long ago."""
    for file in folder.glob("*"):
        with contextlib.suppress(OSError):
            left = file.name.endswith((".part", ".part.json")) or file.name.startswith(".")
            if left and now - file.stat().st_mtime > ABANDONED_SECONDS:
                file.unlink()
