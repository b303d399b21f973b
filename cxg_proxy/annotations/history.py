"""The history of labels and gene sets: every saved version, compressed in one folder and thinned with age.

A version is one gzip file. Its name holds what thinning needs (time, kind, digest, bytes), so that no save has to open
the other versions. The comment in its gzip header holds what a list of versions shows. `zcat` prints the CSV.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from cxg_proxy.files import atomic

from . import diff, retention
from .retention import VersionFile

FOLDER = "history"
LIMIT = 200_000_000  # bytes; the default
UNBOUNDED = 1 << 62

_UNFILED = "unfiled-"
_FOUND = "-found"
_LOST = "-lost"
_NAME = re.compile(
    r"(?P<stamp>\d{8}T\d{6}\.\d{3}Z)-(?P<kind>labels|gene-sets)"
    r"-(?P<digest>[0-9a-f]{16})-(?P<stored>\d{1,12})(?P<found>-found)?(?P<lost>-lost)?"
)
_GENERATED = re.compile(rb"\A# [^\n]* generated on [^\n]*\n")  # another time in the file is no new version
_MAX_BYTES = 1 << 30  # of one decompressed version, so that a planted file cannot fill the memory
_HEADER = struct.Struct("<4BL2B")
_FIRST_BYTES = 4096
_LARGE_BYTES = 200_000  # of a version that a thread of its own packs; to start one takes a millisecond


@dataclass(frozen=True)
class Version:
    """One version: its name, when it was saved, and what it changed."""

    id: str
    kind: str  # labels or gene-sets
    time: float  # seconds since 1970
    size: int  # bytes of the CSV
    rows: int
    columns: tuple[str, ...]
    changed: dict[str, int]  # cells of each column, or genes of each set, that differ from the previous version
    origin: str  # saved, found (on disk, written by something else), restored, adopted or uploaded
    replaced: tuple[str, ...] = ()  # columns that another writer had changed too, kept in the previous version
    lost: bool = False  # whether a later save replaced columns of this version that its writer had not seen


class NoSuchVersion(LookupError):
    """There is no version of this name, or it is damaged."""


@functools.lru_cache(maxsize=2)  # one save calls this five times, for the previous and the new version
def digest(content: bytes) -> str:
    """Digest the content of a version, leaving out the line that only says when the file was written."""
    generated = _GENERATED.match(content)
    counted = memoryview(content)[generated.end() if generated else 0 :]  # a view: copying takes half as long again
    return hashlib.blake2b(counted, digest_size=8).hexdigest()


class History:
    """The versions below one open folder; a caller that writes must hold that folder's lock."""

    def __init__(self, folder: int, limit: int = UNBOUNDED):
        self._folder, self._limit = folder, limit

    def add(
        self,
        kind: str,
        content: bytes,
        *,
        now: float,
        origin: str,
        before: bytes | None,
        replaced: tuple[str, ...] = (),
    ) -> None:
        """Store a version, unless the newest has the same content, and thin the history; raises OSError if that fails.

        If the save `replaced` columns that its writer had not seen, the version `before` is marked as lost and thinned
        separately.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(FOLDER, 0o700, dir_fd=self._folder)
            os.fsync(self._folder)
        with atomic.opened(FOLDER, inside=self._folder) as inside:
            self._file_unfiled(inside)
            names = os.listdir(inside)
            files = _filed(names)
            new = _new(kind, content, now)._replace(found=origin == "found")
            if not _newest_is(files, new):
                if before is not None and replaced:
                    files = _with_lost(inside, files, kind, digest(before))
                packed = _packed(kind, content, before, origin, replaced)
                files.append(_store(inside, files, new, packed))
            for version in retention.to_remove(files, _ms(now), self._limit):
                atomic.remove(inside, version.name)
            atomic.remove_abandoned(inside, (name for name in names if name.startswith(".")))

    def holds(self, kind: str, content: bytes) -> bool:
        """Whether the newest version has this content."""
        with contextlib.suppress(OSError):
            return _newest_is(self._all(), _new(kind, content, 0))
        return False

    def set_aside(self, kind: str, name: str, content: bytes, *, now: float) -> None:
        """Keep a file that is about to be replaced, if `add` failed: as a link beside it, which needs no space."""
        unfiled = _unfiled(os.listdir(self._folder))
        for version in retention.to_remove(unfiled, _ms(now), self._limit):
            atomic.remove(self._folder, version.name)
        version = _new(kind, content, now)
        aside = f"{_UNFILED}{retention.stamp(_free(unfiled, version))}-{kind}-{version.digest}-{version.stored}.csv"
        try:
            os.link(name, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)
            atomic.read(self._folder, aside, limit=1)
        except OSError:  # no links on this file system, or the file itself is a symbolic link
            atomic.remove(self._folder, aside)
            atomic.create(self._folder, aside, content)
        os.fsync(self._folder)

    def _file_unfiled(self, inside: int) -> None:
        """Move the files that were set aside into the history, now that it can be written again."""
        for version in sorted(_unfiled(os.listdir(self._folder))):
            files = _filed(os.listdir(inside))
            content = atomic.read(self._folder, version.name)
            if not _newest_is(files, version):
                _store(inside, files, version._replace(found=True), _packed(version.kind, content, None, "found"))
            atomic.remove(self._folder, version.name)

    def versions(self) -> list[Version]:
        """Return every version that can be read, newest first."""
        files = sorted(self._all(), key=lambda version: (version.stamp, version.kind), reverse=True)
        return [version for version in map(self._described, files) if version]

    def _all(self) -> list[VersionFile]:
        return _unfiled(os.listdir(self._folder)) + _filed(self._names())

    def _names(self) -> list[str]:
        try:
            with atomic.opened(FOLDER, inside=self._folder) as inside:
                return os.listdir(inside)
        except OSError:  # there is no history yet, or this is not a folder of ours
            return []

    def _described(self, file: VersionFile) -> Version | None:
        try:
            facts = self._facts_of(file)
            columns, changed = tuple(map(str, facts["columns"])), dict(facts["changed"])
            size, rows, origin = int(facts["size"]), int(facts["rows"]), str(facts["origin"])
            replaced = tuple(map(str, facts.get("replaced", ())))
        except (OSError, ValueError, KeyError, TypeError, NoSuchVersion):
            return None
        time = retention.milliseconds(file.stamp) / 1000
        return Version(
            _id(file.name), file.kind, time, size, rows, columns, changed, origin, replaced=replaced, lost=file.lost
        )

    def _facts_of(self, file: VersionFile) -> dict[str, Any]:
        if not file.name.endswith(".gz"):
            return _facts(file.kind, self.read(_id(file.name))[1], None, "found")
        with atomic.opened(FOLDER, inside=self._folder) as inside:
            start = atomic.read(inside, file.name, limit=_FIRST_BYTES)
            if b"\0" not in start[_HEADER.size :]:
                start = atomic.read(inside, file.name)
        facts = json.loads(start[_HEADER.size :].partition(b"\0")[0])
        return facts if isinstance(facts, dict) else {}

    def read(self, version: str) -> tuple[str, bytes]:
        """Return the kind and content of a version; raises NoSuchVersion unless it is intact."""
        file = next((each for each in self._all() if _id(each.name) == version), None)
        if file is None:
            raise NoSuchVersion(version)
        try:
            content = self._content(file)
        except (OSError, zlib.error) as error:
            raise NoSuchVersion(version) from error
        if digest(content) != file.digest:
            raise NoSuchVersion(version)
        return file.kind, content

    def _content(self, file: VersionFile) -> bytes:
        if not file.name.endswith(".gz"):
            return atomic.read(self._folder, file.name)
        with atomic.opened(FOLDER, inside=self._folder) as inside:
            unpack = zlib.decompressobj(wbits=31)
            content = unpack.decompress(atomic.read(inside, file.name), _MAX_BYTES)
        if not unpack.eof:
            raise zlib.error("cut off, or larger than any labels")
        return content


def _id(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".csv").removesuffix(_LOST).removesuffix(_FOUND)


def _filed(names: list[str]) -> list[VersionFile]:
    return list(_matching(names, "", ".csv.gz"))


def _unfiled(names: list[str]) -> list[VersionFile]:
    return list(_matching(names, _UNFILED, ".csv"))


def _matching(names: list[str], start: str, end: str) -> Iterator[VersionFile]:
    for name in names:
        if name.startswith(start) and name.endswith(end):
            version = _parsed(name.removeprefix(start).removesuffix(end))
            if version is not None:
                yield version._replace(name=name)


@functools.lru_cache(4096)  # each save reads all names again
def _parsed(stem: str) -> VersionFile | None:
    """Return the version with this name, None if it is none."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    try:
        retention.milliseconds(match["stamp"])
    except ValueError:  # no such day
        return None
    stored, lost, found = int(match["stored"]), bool(match["lost"]), bool(match["found"])
    return VersionFile(match["stamp"], match["kind"], match["digest"], stored, stem, lost, found)


def _new(kind: str, content: bytes, now: float) -> VersionFile:
    return VersionFile(retention.stamp(_ms(now)), kind, digest(content), len(content), "")


def _newest_is(files: list[VersionFile], wanted: VersionFile) -> bool:
    newest = max((version for version in files if version.kind == wanted.kind), default=None)
    return newest is not None and newest.digest == wanted.digest


def _with_lost(inside: int, files: list[VersionFile], kind: str, digest: str) -> list[VersionFile]:
    """Mark the newest version with this content as lost: a writer that had not seen it replaced part of it."""
    newest = max((each for each in files if (each.kind, each.digest) == (kind, digest)), default=None)
    if newest is None or newest.lost:
        return files
    name = newest.name.removesuffix(".csv.gz") + f"{_LOST}.csv.gz"
    os.rename(newest.name, name, src_dir_fd=inside, dst_dir_fd=inside)
    return [newest._replace(name=name, lost=True) if each is newest else each for each in files]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _free(files: list[VersionFile], wanted: VersionFile) -> int:
    """Return a time later than that of every other version of this kind, so that they sort in the order of saving.

    This holds even if the clock was set back.
    """
    newest = max((version.stamp for version in files if version.kind == wanted.kind), default="")
    time = retention.milliseconds(wanted.stamp)
    return max(time, retention.milliseconds(newest) + 1) if newest else time


def _facts(kind: str, content: bytes, before: bytes | None, origin: str) -> dict[str, Any]:
    summary = diff.summary(before, content, gene_sets=kind == "gene-sets")
    return {**asdict(summary), "size": len(content), "origin": origin}


def _store(inside: int, files: list[VersionFile], version: VersionFile, packed: bytes) -> VersionFile:
    text = retention.stamp(_free(files, version))
    name = f"{text}-{version.kind}-{version.digest}-{len(packed)}{_FOUND if version.found else ''}.csv.gz"
    atomic.replace(inside, name, packed)
    return version._replace(stamp=text, stored=len(packed), name=name)


def _packed(kind: str, content: bytes, before: bytes | None, origin: str, replaced: tuple[str, ...] = ()) -> bytes:
    """Make a gzip file with a comment, which Python's gzip module can read but not write."""
    if len(content) < _LARGE_BYTES:
        deflated, facts = _deflated(content), _facts(kind, content, before, origin)
    else:
        with ThreadPoolExecutor(1) as packer:  # zlib releases the GIL, so another core compares the versions meanwhile
            packing = packer.submit(_deflated, content)
            facts = _facts(kind, content, before, origin)
        deflated = packing.result()
    facts["replaced"] = replaced
    comment = json.dumps(facts).encode("ascii")
    header = _HEADER.pack(0x1F, 0x8B, zlib.DEFLATED, 0b10000, 0, 0, 255)
    trailer = struct.pack("<2L", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    return b"".join((header, comment, b"\0", deflated, trailer))


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(level=4, wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()
