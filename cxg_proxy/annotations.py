"""One user's labels and gene sets for one dataset: two CSV files and their history, which only this module writes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from . import whole
from .errors import LabelsNotSaved
from .history import LIMIT, History, NoSuchVersion, Version
from .lock import PATIENCE_SECONDS, Lock, Taken, locked

__all__ = ["NoSuchVersion", "Version"]  # with all that is defined here

LABELS = "cell-labels.csv"
GENE_SETS = "gene-sets.csv"
DATASET = "dataset.json"

_KINDS = {LABELS: "labels", GENE_SETS: "gene-sets"}
_STEM_BYTES = 120
_WHEN_TAKEN = ("Close the other viewer of this dataset, or wait until it has saved.", "Change a label again to save.")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """The dataset that labels are for, so that it is recognised when it was moved or renamed."""

    name: str
    path: str
    cells: int | None = None
    identifiers: str | None = None  # `identifiers_digest` of its cells


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


def write(
    where: Path,
    name: str,
    content: bytes,
    *,
    about: Callable[[], About] | None = None,
    now: float | None = None,
    history_limit: int = LIMIT,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Replace the file in one step: at every instant the old or the new version is there, whole.

    Both are in the history then. `about` is asked only when nothing is known of the dataset here yet.
    Raises LabelsNotSaved, also when another process writes to this folder for longer than `patience` seconds.
    """
    save = _Save(name, content, "saved", time.time() if now is None else now, history_limit)
    _write(where, save, about, patience)


def versions(where: Path) -> list[Version]:
    """Every version of labels and gene sets that can still be read, newest first."""
    try:
        with whole.opened(where) as folder:
            return History(folder).versions()
    except OSError:
        return []


def read_version(where: Path, version: str) -> bytes:
    """The CSV of one version, by its id; raises NoSuchVersion."""
    return _read_version(where, version)[1]


def restore(
    where: Path,
    version: str,
    *,
    now: float | None = None,
    history_limit: int = LIMIT,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Make a version the current one; what it replaces stays in the history, so this can be undone.

    Raises NoSuchVersion or LabelsNotSaved.
    """
    kind, content = _read_version(where, version)
    name = next(name for name, its_kind in _KINDS.items() if its_kind == kind)
    save = _Save(name, content, "restored", time.time() if now is None else now, history_limit)
    _write(where, save, None, patience)


def described(where: Path) -> About | None:
    """What is known of the dataset these labels are for, or None."""
    try:
        known = json.loads((where / DATASET).read_bytes())
        return About(**{field.name: known.get(field.name) for field in fields(About)})
    except (OSError, ValueError, AttributeError):
        return None


def identifiers_digest(cells: Iterable[str]) -> str:
    """What recognises a dataset that was moved or renamed: the same for the same cells in the same order."""
    digest = hashlib.blake2b(digest_size=16)
    for cell in cells:
        name = cell.encode(errors="surrogateescape")
        digest.update(b"%d:" % len(name) + name)  # the length, for a name may hold any separator
    return digest.hexdigest()


@dataclass(frozen=True)
class _Save:
    name: str
    content: bytes
    origin: str
    now: float
    limit: int


def _read_version(where: Path, version: str) -> tuple[str, bytes]:
    try:
        with whole.opened(where) as folder:
            return History(folder).read(version)
    except OSError as error:
        raise NoSuchVersion(version) from error


def _write(where: Path, save: _Save, about: Callable[[], About] | None, patience: float) -> None:
    try:
        whole.make(where)
        with whole.opened(where) as folder, locked(folder, patience=patience) as lock:
            before = _replace(folder, save, lock)
            _afterwards(folder, save, before, about)
    except OSError as error:
        raise LabelsNotSaved(save.name, detail=f"{where}: {error.strerror or error}") from error
    except Taken as error:
        raise LabelsNotSaved(save.name, detail=f"{where}: {error}", steps=_WHEN_TAKEN) from error


def _replace(folder: int, save: _Save, lock: Lock) -> bytes | None:
    """Replace the file and return what it held; that is in the history before it goes, whoever had written it."""
    before: bytes | None = None
    history, kind = History(folder, save.limit), _KINDS[save.name]

    def keep_the_old() -> None:
        nonlocal before
        with contextlib.suppress(FileNotFoundError):
            before = whole.read(folder, save.name, follow=True)
        if before is not None and not history.holds(kind, before):
            # Its own time may be long ago, or be wrong: it was the current version until now.
            try:
                history.keep(kind, before, now=save.now, origin="found", before=None)
            except OSError as error:
                _log.warning("The version of %s found on disk is kept beside it: %s", save.name, error)
                history.set_aside(kind, save.name, before, now=save.now)
        lock.check()

    names = [name for name in os.listdir(folder) if name.startswith((f".{save.name}.", ".lock."))]
    whole.remove_abandoned(folder, names)
    whole.replace(folder, save.name, save.content, at_last=keep_the_old)
    return before


def _afterwards(folder: int, save: _Save, before: bytes | None, about: Callable[[], About] | None) -> None:
    """Keep the new version too. If that fails the save has succeeded all the same: the next one keeps it first."""
    try:
        History(folder, save.limit).keep(
            _KINDS[save.name], save.content, now=save.now, origin=save.origin, before=before
        )
        if about is not None and DATASET not in os.listdir(folder):
            text = json.dumps(asdict(about()), indent=2, ensure_ascii=False) + "\n"
            whole.replace(folder, DATASET, text.encode(errors="replace"))
    except OSError as error:
        _log.warning("%s is saved, but not yet in the history: %s", save.name, error)
