"""One user's labels and gene sets for one dataset: two CSV files, which only this module writes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import time
from pathlib import Path

from .errors import LabelsNotSaved

LABELS = "cell-labels.csv"
GENE_SETS = "gene-sets.csv"

_STEM_BYTES = 120
_ABANDONED_SECONDS = 3600


def directory(home: Path, dataset: Path) -> Path:
    """Where this user's labels for `dataset` are kept: the same place however the file is reached."""
    return named(home, os.path.realpath(dataset))


def named(home: Path, name: str) -> Path:
    """The same for a dataset that has a name but no file of its own, only a copy that may move."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
    return home / f"{_safe_stem(os.path.basename(name))}-{digest}"


def _safe_stem(name: str) -> str:
    stem = display_name(name).removesuffix(".h5ad")
    stem = re.sub(r"[^\w.+-]+", "_", stem).strip("._-")
    return stem.encode()[:_STEM_BYTES].decode(errors="ignore") or "dataset"


def display_name(path: str) -> str:
    """The file's name for people and for CSV headers: one line, whatever bytes the real name holds."""
    name = os.fsencode(os.path.basename(path)).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def version(where: Path, name: str) -> tuple[int, int, int] | None:
    """What tells one state of the file from another, or None while there is none to be seen."""
    try:
        status = os.stat(where / name)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def read(where: Path, name: str) -> bytes | None:
    """The file as it is now, or None if nothing was saved yet."""
    try:
        return (where / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def saved(where: Path) -> float | None:
    """When something was last saved here, in seconds since 1970, or None."""
    times = []
    for name in (LABELS, GENE_SETS):
        with contextlib.suppress(OSError):
            times.append(os.stat(where / name).st_mtime)
    return max(times, default=None)


def write(where: Path, name: str, content: bytes) -> None:
    """Replace the file in one step: at every instant the old or the new version is there, whole."""
    try:
        _make_directories(where)
        _remove_abandoned(where, name)
        _replace(where, name, content)
    except OSError as error:
        raise LabelsNotSaved(name, detail=f"{where}: {error.strerror or error}") from error


def _make_directories(where: Path) -> None:
    missing = [level for level in (where, *where.parents) if not level.exists()]
    for level in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another worker of this user was faster
            level.mkdir(mode=0o700)


def _remove_abandoned(where: Path, name: str) -> None:
    """Remove what a writer left that was killed half-way; a young file may belong to a writer that still runs."""
    for path in where.glob(f".{name}.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _replace(where: Path, name: str, content: bytes) -> None:
    descriptor, beside = tempfile.mkstemp(prefix=f".{name}.", dir=where)  # mkstemp makes it 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, where / name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _fsync_directory(where)


def _fsync_directory(where: Path) -> None:
    descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
