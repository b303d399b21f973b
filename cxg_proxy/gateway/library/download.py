"""The download of a remote dataset as files in the cache: the complete copy, the partial file, the version of each.

Everything here accesses the disk and is called in threads; `http_client` does the networking, and `remote` combines the
two.
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
    """The version of the content at a remote address: the values that tell one content from another."""

    place: str = ""
    etag: str = ""
    modified: str = ""
    length: int | None = None

    @staticmethod
    def of(address: str, headers: HTTPHeaders, length: int | None) -> RemoteVersion:
        """Return the version that a reply describes.

        If the reply has an ETag or Last-Modified header, the query of the address is left out, because a signature in
        it changes from day to day.
        """
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        return RemoteVersion(
            _place(address if not (etag or modified) else address.partition("?")[0]), etag, modified, length
        )

    @property
    def strong(self) -> str:
        """The validator with which a server can continue a download: it changes with every byte."""
        return self.modified if self.etag.startswith("W/") else self.etag or self.modified

    def at(self, address: str) -> bool:
        """Whether a request to this address can be made conditional on this version."""
        return bool(self.etag or self.modified) and self.place == _place(address.partition("?")[0])

    def same(self, other: RemoteVersion) -> bool:
        """Whether both versions are the same content, as far as can be known."""
        if self.place != other.place or (None not in (self.length, other.length) and self.length != other.length):
            return False
        for validator, other_validator in ((self.etag, other.etag), (self.modified, other.modified)):
            if validator and other_validator:
                return validator.removeprefix("W/") == other_validator.removeprefix("W/")
        return self.length is not None and self.length == other.length


def _place(address: str) -> str:
    return hashlib.blake2b(address.encode(), digest_size=16).hexdigest()


class Copy:
    """The files of one remote dataset: the complete copy, the partial file that becomes it, and the version of each."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.part = file.with_name(f"{file.name}.part")

    def lock(self) -> IO[bytes] | None:
        """Take the lock for downloading and return its open file, or None if another process holds it.

        The lock is held until the file is closed or the process ends, in whatever way.
        """
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
        """Return the version of the copy (None without a copy), the version of the partial file, and the latter's size.

        A partial file that is complete becomes the copy first.
        """
        version, size = _version(self.part), _size(self.part)
        if size and size == version.length:  # the process was killed before it could rename the file
            self.finish()
            version, size = RemoteVersion(), 0
        return _version(self.file) if self.file.exists() else None, version, size

    def share(self) -> float | None:
        """Return the share that has been downloaded, None if it cannot be known."""
        return share(_size(self.part), _version(self.part).length)

    def begin(self, start: int, version: RemoteVersion) -> None:
        """Create the partial file, or cut an existing one, at `start` bytes.

        Its version is written last, because it must never describe older bytes.
        """
        with open(os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as part:
            part.truncate(start)
        write_whole(_version_file(self.part), json.dumps(asdict(version)).encode())

    def write(self, start: int, piece: bytes) -> None:
        """Write a piece of the partial file, beginning at byte `start`."""
        with open(self.part, "r+b") as part:
            part.seek(start)
            part.write(piece)

    def finish(self) -> None:
        """Replace the copy with the partial file, which is complete now, in one step."""
        with open(self.part, "r+b") as part:
            os.fsync(part.fileno())
        os.replace(self.part, self.file)
        os.replace(_version_file(self.part), _version_file(self.file))


def _version_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.json")


def _version(file: Path) -> RemoteVersion:
    try:
        return RemoteVersion(**json.loads(_version_file(file).read_bytes()))
    except (OSError, ValueError, TypeError):
        return RemoteVersion()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def share(size: int, length: int | None) -> float | None:
    """Return the share of `length` that `size` makes up, None if the length is unknown."""
    return min(1.0, size / length) if length else None


def sweep(folder: Path, now: float) -> None:
    """Remove the files that killed downloads left behind more than ABANDONED_SECONDS ago."""
    for file in folder.glob("*"):
        with contextlib.suppress(OSError):
            left = file.name.endswith((".part", ".part.json")) or file.name.startswith(".")
            if left and now - file.stat().st_mtime > ABANDONED_SECONDS:
                file.unlink()
