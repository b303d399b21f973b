"""The files of compressed replies beside a store: checked when read, written atomically, and limited in size."""

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
_PART_SECONDS = 3600.0  # an older temporary file has lost its writer
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """The limits of a folder."""

    files: int = 4000
    bytes: int = 512 * 1024**2  # of all files together
    largest: int = 64 * 1024**2  # bytes of one reply


@dataclass(frozen=True)
class _File:
    path: str
    bytes: int
    modified: float


class ReplyFiles:
    """The compressed replies of one edition in a folder; the edition is a digest of everything they are made from.

    The folder may be read-only, full, damaged or missing; replies are then just not kept or found. Each file holds a
    checksum and a reply, and is named after the edition and the request.
    """

    def __init__(self, folder: Path, edition: str, bounds: Bounds | None = None):
        self._folder, self._edition, self._bounds = folder, edition, bounds or Bounds()
        self._writing = True  # until a write fails

    def get(self, target: str, encoding: str) -> bytes | None:
        """Return the kept reply, or None if there is none or it is damaged."""
        try:
            descriptor = os.open(self._file(target, encoding), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > self._bounds.largest + _CHECK_BYTES:
                    return None
                check, content = file.read(_CHECK_BYTES), file.read()
        except OSError:
            return None
        if not hmac.compare_digest(check, self._check(target, encoding, content)):
            _log.warning("A kept reply (%r, %s) is damaged; it is made again", target, encoding)
            return None
        return content

    def put(self, target: str, encoding: str, content: bytes) -> None:
        """Keep a reply if the folder can be written to and has room; log the first failure and then stop writing."""
        if not self._writing or len(content) > self._bounds.largest:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # without its parents: a removed store stays removed
            if self._make_room(len(content) + _CHECK_BYTES):
                self._write(self._file(target, encoding), self._check(target, encoding, content) + content)
        except OSError as reason:
            self._writing = False
            _log.info("Replies are not kept in %s: %s", self._folder, reason.strerror or reason)

    def _file(self, target: str, encoding: str) -> Path:
        return self._folder / f"{self._edition}-{etags.digest(target)}.{encoding}"

    def _check(self, target: str, encoding: str, content: bytes) -> bytes:
        """Return the checksum, which includes the request, so that a file under another's name counts as damaged."""
        check = hashlib.blake2b(digest_size=_CHECK_BYTES)
        check.update(etags.digest(self._edition, target, encoding).encode())
        check.update(content)
        return check.digest()

    def _write(self, file: Path, content: bytes) -> None:
        """Write a temporary file and rename it; the checksum reveals a file that a power cut left incomplete.

        All who can read the folder can read the file, since an administrator may make replies for other users.
        """
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=_PART)
        try:
            with os.fdopen(handle, "wb") as temporary:
                temporary.write(content)
                os.fchmod(handle, 0o600 | (self._folder.stat().st_mode & 0o044))
            os.replace(name, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _make_room(self, size: int) -> bool:
        """Make room for `size` bytes, removing files of other editions and abandoned temporary files, oldest first.

        Return whether there is room; if not, nothing was removed.
        """
        files = self._listed()
        count, held = len(files) + 1, sum(file.bytes for file in files) + size
        going: list[_File] = []
        for file in sorted(filter(self._may_go, files), key=lambda file: file.modified):
            if count <= self._bounds.files and held <= self._bounds.bytes:
                break
            going.append(file)
            count, held = count - 1, held - file.bytes
        if count > self._bounds.files or held > self._bounds.bytes:
            return False
        for file in going:
            with contextlib.suppress(FileNotFoundError):  # another worker removed it first
                os.unlink(file.path)
        return True

    def _may_go(self, file: _File) -> bool:
        name = os.path.basename(file.path)
        if name.endswith(_PART):
            return time.time() - file.modified > _PART_SECONDS
        return not name.startswith(f"{self._edition}-")

    def _listed(self) -> list[_File]:
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    files.append(_File(entry.path, status.st_size, status.st_mtime))
        return files
