"""The store of one user's annotations for one dataset: only this module writes the two CSV files and their history."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from cxg_proxy.errors import LabelsNotCertain, LabelsNotSaved
from cxg_proxy.files import atomic
from cxg_proxy.files.lock import PATIENCE_SECONDS, Lock, LockTaken, locked

from . import merge
from .folder import DATASET, GENE_SETS, LABELS, DatasetRecord, read, read_record, write_record
from .history import UNBOUNDED, History, NoSuchVersion, Version, digest
from .merge import Merged, SeenState
from .tables import Malformed, without_columns

_KINDS = {LABELS: "labels", GENE_SETS: "gene-sets"}
_OF_A_WRITER = re.compile(rf"\.({LABELS}|{GENE_SETS}|{DATASET}|lock)\.").match
_ROUNDS = 5  # attempts to save a file that another program keeps editing
_WHEN_TAKEN = ("Close the other viewer of this dataset, or wait until it has saved.", "Change a label again to save.")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The result of a save."""

    whole: str  # digest of the file as it is now, if the writer knows all that is in it; else ""
    kept: tuple[str, ...] = ()  # columns that another writer had added or changed meanwhile, and that stay
    removed: tuple[str, ...] = ()  # columns that another writer had removed meanwhile
    replaced: tuple[str, ...] = ()  # columns that another writer had changed too, whose version is in the history


def write(
    where: Path,
    name: str,
    content: bytes,
    *,
    seen: SeenState | None = None,
    cells: Callable[[], tuple[str, ...]] = tuple,
    origin: str = "saved",
    record: Callable[[], DatasetRecord] | None = None,
    now: float | None = None,
    history_limit: int = UNBOUNDED,
    patience: float = PATIENCE_SECONDS,
) -> Outcome:
    """Replace the file atomically: at every instant either the old or the new version is there, complete.

    Afterwards both are in the history. `seen` is the state in which the writer last saw the file: columns that it has
    not seen were added or changed by another writer, and stay (`SeenState()` has seen nothing); None replaces the file
    whatever it holds. `record` returns the description of the dataset, and `cells` its cells, which a table without
    categories does not name. Pass no `history_limit` to remove no version for its size. Raises LabelsNotSaved, also
    when another process writes to this folder for longer than `patience` seconds.
    """
    save = _Save(name, content, origin, time.time() if now is None else now, history_limit, seen, cells)
    return _write(where, save, record, patience)


def adopt(
    where: Path,
    other: Path,
    *,
    excluding: Collection[str] = (),
    record: Callable[[], DatasetRecord] | None = None,
    now: float | None = None,
    history_limit: int = UNBOUNDED,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Copy the labels, `excluding` some categories, and the gene sets of the folder `other` into `where`.

    The other folder keeps them, and other columns in `where` stay. A column that both folders have is taken from the
    other folder, and the replaced one is in the history. Raises LabelsNotSaved.
    """
    for name in _KINDS:
        content = read(other, name)
        if content := without_columns(content, excluding) if content and name == LABELS else content:
            save = _Save(name, content, "adopted", time.time() if now is None else now, history_limit, SeenState())
            _write(where, save, record, patience)


def versions(where: Path) -> list[Version]:
    """Return every version of labels and gene sets that can still be read, newest first."""
    try:
        with atomic.opened(where) as folder:
            return History(folder).versions()
    except OSError:
        return []


def read_version(where: Path, version: str) -> bytes:
    """Return the CSV of one version, by its id; raises NoSuchVersion."""
    return _read_version(where, version)[1]


def restore(
    where: Path,
    version: str,
    *,
    now: float | None = None,
    history_limit: int = UNBOUNDED,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Make a version the current one; the replaced content is in the history, so this can be undone.

    Raises NoSuchVersion or LabelsNotSaved.
    """
    kind, content = _read_version(where, version)
    name = next(name for name, its_kind in _KINDS.items() if its_kind == kind)
    save = _Save(name, content, "restored", time.time() if now is None else now, history_limit, None)
    _write(where, save, None, patience)


@dataclass(frozen=True)
class _Save:
    name: str
    content: bytes
    origin: str
    now: float
    limit: int
    seen: SeenState | None
    cells: Callable[[], tuple[str, ...]] = tuple

    @property
    def kind(self) -> str:
        return _KINDS[self.name]

    def merged(self, theirs: bytes | None) -> Merged:
        """Merge the content to save with what is on the disk (`theirs`)."""
        if self.seen is None or not theirs or self.seen.whole == digest(theirs):
            return Merged(self.content)
        try:
            if self.name == LABELS:
                return merge.merge_labels(self.content, theirs, self.seen, self.cells())
            return merge.merge_gene_sets(self.content, theirs, self.seen)
        except Malformed:  # somebody edited the file into something unreadable; it is in the history
            return Merged(self.content)


class _Edited(Exception):
    """A program without the lock (an editor) wrote to the file while it was being replaced."""


def _read_version(where: Path, version: str) -> tuple[str, bytes]:
    try:
        with atomic.opened(where) as folder:
            return History(folder).read(version)
    except OSError as error:
        raise NoSuchVersion(version) from error


def _write(where: Path, save: _Save, record: Callable[[], DatasetRecord] | None, patience: float) -> Outcome:
    try:
        atomic.make(where)
        with atomic.opened(where) as folder, locked(folder, patience=patience) as lock:
            dataset = _dataset_record(record)
            _set_apart(where, folder, save, dataset, patience)
            before, merged = _replace(where, folder, save, lock)
            _afterwards(folder, save, before, merged)
            _describe(folder, dataset)
    except OSError as error:
        raise LabelsNotSaved(save.name, detail=f"{where}: {error.strerror or error}") from error
    except LockTaken as error:
        raise LabelsNotSaved(save.name, detail=f"{where}: {error}", steps=_WHEN_TAKEN) from error
    whole = digest(merged.content) if merged.is_mine else ""
    return Outcome(whole, merged.kept, merged.removed, merged.replaced)


def _replace(where: Path, folder: int, save: _Save, lock: Lock) -> tuple[bytes | None, Merged]:
    """Replace the file and return its old content and the new; first, the old content is stored in the history."""
    atomic.remove_abandoned(folder, filter(_OF_A_WRITER, os.listdir(folder)))
    for _ in range(_ROUNDS):
        before = _current(folder, save.name)
        merged = save.merged(before)
        keep = functools.partial(_keep_the_old, folder, save, before, merged, lock)
        try:
            atomic.replace(folder, save.name, merged.content, at_last=keep)
        except _Edited:
            continue
        except atomic.Unconfirmed as error:
            raise LabelsNotCertain(save.name, detail=f"{where}: {error.strerror}") from error
        return before, merged
    raise OSError("another program keeps writing to it")


def _current(folder: int, name: str) -> bytes | None:
    try:
        return atomic.read(folder, name, follow=True)
    except FileNotFoundError:
        return None


def _keep_the_old(folder: int, save: _Save, before: bytes | None, merged: Merged, lock: Lock) -> None:
    """Store the content that is about to be replaced in the history, unless it is there, whichever program wrote it."""
    if _current(folder, save.name) != before:
        raise _Edited
    history = History(folder, save.limit)
    if before is not None and not history.holds(save.kind, before):
        # Not the time of the file, which may be long ago or wrong: it was the current version until now.
        try:
            history.add(save.kind, before, now=save.now, origin="found", before=None)
        except OSError as error:
            _log.warning("The version of %s found on disk is kept beside it: %s", save.name, error)
            history.set_aside(save.kind, save.name, before, now=save.now)
    if before is not None and merged.left_behind:
        _keep_whole(folder, save.name, before)
    lock.check()


def _keep_whole(folder: int, name: str, content: bytes) -> None:
    """Keep labels of cells that are no longer in the dataset, in a file that thinning never removes."""
    stem, dot, ending = name.rpartition(".")
    copy = f"{stem}-of-other-cells-{digest(content)[:8]}{dot}{ending}"
    with contextlib.suppress(FileExistsError):
        atomic.create(folder, copy, content)
        os.fsync(folder)


def _afterwards(folder: int, save: _Save, before: bytes | None, merged: Merged) -> None:
    """Store the new version in the history too.

    If that fails, the save has succeeded all the same, and the next save stores this version first.
    """
    try:
        history = History(folder, save.limit)
        history.add(
            save.kind, merged.content, now=save.now, origin=save.origin, before=before, replaced=merged.replaced
        )
    except OSError as error:
        _log.warning("%s is saved, but not yet in the history: %s", save.name, error)


def _describe(folder: int, dataset: DatasetRecord | None) -> None:
    """Write which dataset these labels are for; if that fails, the next save tries again."""
    if dataset is not None:
        try:
            write_record(folder, dataset)
        except OSError as error:
            _log.warning("%s could not be written: %s", DATASET, error)


def _dataset_record(record: Callable[[], DatasetRecord] | None) -> DatasetRecord | None:
    try:
        return record() if record else None
    except OSError as error:
        _log.warning("It is not known which cells these labels are for: %s", error)
        return None


def _set_apart(where: Path, folder: int, save: _Save, dataset: DatasetRecord | None, patience: float) -> None:
    """Copy labels of an earlier file at this path, which had other cells, to a folder where those cells identify them.

    A kill in between loses nothing: first the copy is made, then the new cells are recorded, then the labels are saved.
    """
    before = read_record(where)
    if not (dataset and before and before.identifiers) or before.identifiers == dataset.identifiers:
        return
    contents = [read(where, name) or b"" for name in _KINDS]
    if any(contents):
        # Its name depends on its content, so labels set apart at different times never mix, and none are copied twice.
        apart = where.with_name(f"{where.name}-{digest(before.identifiers.encode() + b''.join(contents))}")
        try:
            adopt(apart, where, record=lambda: before, now=save.now, history_limit=save.limit, patience=patience)
        except LabelsNotCertain as problem:  # it concerns the copy; the new labels are not written yet
            raise OSError(problem.detail) from problem
        if read_record(apart) != before:
            raise OSError(f"the labels of other cells could not be kept in {apart}")
    write_record(folder, dataset)
