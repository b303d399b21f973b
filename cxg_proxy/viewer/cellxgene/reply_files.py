"""A folder of packed replies beside a store: read with distrust, written whole or not at all, and bounded."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cxg_proxy import etags

_CHECK_BYTES = 16
_PART = ".part"
_PART_SECONDS = 3600.0  # older ones have lost their writer
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """How much a folder may hold."""

    files: int = 4000
    bytes: int = 512 * 1024**2  # all of them
    largest: int = 64 * 1024**2  # bytes of one reply


@dataclass(frozen=True)
class _File:
    path: str
    bytes: int
    modified: float


class ReplyFiles:
    """The packed replies in a folder, of one edition: a word for all that they are made from.

    The folder may be read-only, full, damaged or gone; then what it lacks is not there. One file is a checksum and what
    was kept, under a name made of the edition and of what was asked.
    """

    def __init__(self, folder: Path, edition: str, bounds: Bounds | None = None):
        self._folder, self._edition, self._bounds = folder, edition, bounds or Bounds()
        self._writing = True  # until that fails

    def get(self, asked: str, encoding: str) -> bytes | None:
        """What was kept, None if there is nothing that is whole."""
        try:
            descriptor = os.open(self._file(asked, encoding), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                if not stat.S_ISREG(found.st_mode) or found.st_size > self._bounds.largest + _CHECK_BYTES:
                    return None
                check, content = file.read(_CHECK_BYTES), file.read()
        except OSError:
            return None
        if not hmac.compare_digest(check, self._check(asked, encoding, content)):
            _log.warning("A kept reply (%r, %s) is damaged; it is made again", asked, encoding)
            return None
        return content

    def put(self, asked: str, encoding: str, content: bytes) -> None:
        """Keep it if that is possible."""
        if not self._writing or len(content) > self._bounds.largest:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # not its parents: a store that was removed stays removed
            if self._make_room(len(content) + _CHECK_BYTES):
                self._write(self._file(asked, encoding), self._check(asked, encoding, content) + content)
        except OSError as reason:
            self._writing = False
            _log.info("Replies are not kept in %s: %s", self._folder, reason.strerror or reason)

    def _file(self, asked: str, encoding: str) -> Path:
        return self._folder / f"{self._edition}-{etags.digest(asked)}.{encoding}"

    def _check(self, asked: str, encoding: str, content: bytes) -> bytes:
        """Bound to its place: a file under another's name is as bad as a damaged one."""
        check = hashlib.blake2b(digest_size=_CHECK_BYTES)
        check.update(etags.digest(self._edition, asked, encoding).encode())
        check.update(content)
        return check.digest()

    def _write(self, file: Path, content: bytes) -> None:
        """Beside it, then renamed; a power cut may leave a torn file, which its checksum betrays.

        It can be read by whoever can read the folder: an administrator may make replies for others.
        """
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=_PART)
        try:
            with os.fdopen(handle, "wb") as beside:
                beside.write(content)
                os.fchmod(handle, 0o600 | (self._folder.stat().st_mode & 0o044))
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _make_room(self, size: int) -> bool:
        """Whether so many more bytes fit, if need be in the place of another edition's and of lost parts."""
        there = self._listed()
        count, held = len(there) + 1, sum(file.bytes for file in there) + size
        going: list[_File] = []
        for file in sorted(filter(self._may_go, there), key=lambda file: file.modified):
            if count <= self._bounds.files and held <= self._bounds.bytes:
                break
            going.append(file)
            count, held = count - 1, held - file.bytes
        if count > self._bounds.files or held > self._bounds.bytes:
            return False
        for file in going:
            with contextlib.suppress(FileNotFoundError):  # another worker was first
                os.unlink(file.path)
        return True

    def _may_go(self, file: _File) -> bool:
        name = os.path.basename(file.path)
        if name.endswith(_PART):
            return time.time() - file.modified > _PART_SECONDS
        return not name.startswith(f"{self._edition}-")

    def _listed(self) -> list[_File]:
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append(_File(entry.path, status.st_size, status.st_mtime))
        return found
