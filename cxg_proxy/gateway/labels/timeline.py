"""The timeline of a dataset's labels, read from the disk: versions as days, tables as bars. All calls block."""

import contextlib
import functools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from cxg_proxy import annotations
from cxg_proxy.annotations import GENE_SETS, LABELS, DatasetRecord, Version
from cxg_proxy.annotations.history import digest
from cxg_proxy.annotations.tables import UNASSIGNED, Malformed, count_labels, read_gene_sets
from cxg_proxy.errors import NoSuchVersion, NotReadable

from .models import Bar, Category, Change, Day, Entry, Offer, Shown

MAX_BARS = 50
MAX_CATEGORIES = 40
MAX_CHANGES = 4
MAX_OFFERS = 10
MAX_REMEMBERED = 32
OPEN_ENTRIES = 8  # of one day, that are not folded
OPEN_DAYS = 14
DAY_SECONDS = 86_400

NAMES = {"labels": LABELS, "gene-sets": GENE_SETS}

_remembered: dict[str, Shown] = {}


@dataclass(frozen=True)
class Timeline:
    """The versions of one dataset's labels, and the content of those that are shown."""

    shown: Sequence[Shown]
    days: Sequence[Day]
    older: Sequence[Day]
    versions: int
    saved: Sequence[str]
    entries: Mapping[str, Entry]


def read_state(where: Path, version: str = "") -> Timeline:
    """Return everything that is saved, with the current files shown, or only the version of this id.

    Raises NoSuchVersion, and NotReadable if the folder cannot be read.
    """
    _refuse_unreadable(where)
    live = {kind: content for kind, name in NAMES.items() if (content := _read(where, name)) is not None}
    entries = _entries(annotations.versions(where), live, version)
    by_id = {entry.id: entry for entry in entries}
    if version:
        shown = [_version(where, by_id, version)]
    else:
        shown = [_current(where, kind, content, entries) for kind, content in live.items()]
    days = list(_days(entries))
    return Timeline(shown, days[:OPEN_DAYS], days[OPEN_DAYS:], len(entries), list(live), by_id)


def offers(home: Path, identifiers: str, *, excluding: Path, columns: Collection[str] = ()) -> list[Offer]:
    """Return what was saved for other datasets with the same cells, the latest first.

    `columns` are the dataset's own, which are not offered.
    """
    folders = annotations.same_cells(home, identifiers, excluding=excluding)[:MAX_OFFERS]
    offers = [_offer(folder, record, columns) for folder, record in folders]
    return [offer for offer in offers if offer.categories or offer.gene_sets or not offer.own]


def offered(home: Path, identifiers: str, name: str, *, excluding: Path) -> Path:
    """Return the folder of an offer by its name; raises NoSuchVersion for anything that is not offered."""
    for folder, _ in annotations.same_cells(home, identifiers, excluding=excluding):
        if folder.name == name:
            return folder
    raise NoSuchVersion


def content_of(where: Path, kind: str, version: str = "") -> bytes | None:
    """Return the CSV of the current file (None if there is none) or of a version.

    Raises NoSuchVersion or NotReadable.
    """
    if not version:
        _refuse_unreadable(where)
        return _read(where, NAMES[kind])
    if f"-{kind}-" not in version:
        raise NoSuchVersion
    try:
        return annotations.read_version(where, version)
    except annotations.NoSuchVersion as reason:
        raise NoSuchVersion from reason


def _read(where: Path, name: str) -> bytes | None:
    try:
        return annotations.read(where, name)
    except OSError as reason:
        raise NotReadable(str(where / name), detail=reason.strerror or str(reason)) from reason


def _refuse_unreadable(where: Path) -> None:
    """Raise NotReadable for a folder that cannot be read, which must not be taken for an empty one."""
    try:
        os.listdir(where)
    except FileNotFoundError:
        return
    except OSError as reason:
        raise NotReadable(str(where), detail=reason.strerror or str(reason)) from reason


# --- versions ------------------------------------------------------------------------------------------------------


def _entries(versions: Sequence[Version], live: Mapping[str, bytes], shown: str) -> list[Entry]:
    """Return the versions as entries, newest first, each with its changes from the next older one of its kind."""
    older: dict[str, Version] = {}
    before: dict[str, Version | None] = {}
    for version in reversed(versions):
        before[version.id] = older.get(version.kind)
        older[version.kind] = version
    current = {older[kind].id for kind, content in live.items() if kind in older and _holds(older[kind], content)}
    return [
        replace(_entry(version, before[version.id]), current=version.id in current, shown=version.id == shown)
        for version in versions
    ]


def _holds(version: Version, content: bytes) -> bool:
    return f"-{digest(content)}-" in version.id


def _entry(version: Version, before: Version | None) -> Entry:
    changes = list(_changes(version, before))
    return Entry(
        id=version.id,
        kind=version.kind,
        time=version.time,
        size=version.size,
        rows=version.rows,
        origin=version.origin,
        changes=changes[:MAX_CHANGES],
        more=len(changes[MAX_CHANGES:]),
        replaced=version.replaced,
        before=before.id if before else "",
        lost=version.lost,
    )


def _changes(version: Version, before: Version | None) -> Iterator[Change]:
    """Yield the changes, the most important first: removed, new, different."""
    if before is None:
        yield Change("first")
    old = before.columns if before else ()
    yield from (Change("removed", name, version.changed.get(name, 0)) for name in old if name not in version.columns)
    yield from (Change("new", name, version.changed.get(name, 0)) for name in version.columns if name not in old)
    both = [name for name in version.columns if name in old and version.changed.get(name)]
    yield from (Change("changed", name, version.changed[name]) for name in sorted(both, key=_falling(version.changed)))
    if before and version.kind == "labels" and before.rows != version.rows:
        yield Change("rows", count=version.rows)


def _falling(counts: Mapping[str, int]) -> functools.partial[int]:
    return functools.partial(lambda name: -counts[name])


def _days(entries: Iterable[Entry]) -> Iterator[Day]:
    for _, group in groupby(entries, key=lambda entry: entry.time // DAY_SECONDS):
        day = list(group)
        folded = day[OPEN_ENTRIES:] if len(day) > OPEN_ENTRIES + 1 else []  # folding a single one would save nothing
        unfolded = day[: len(day) - len(folded)]
        yield Day(day[0].time, unfolded, folded, open=any(entry.shown for entry in folded))


# --- contents ------------------------------------------------------------------------------------------------------


def _current(where: Path, kind: str, content: bytes, entries: Sequence[Entry]) -> Shown:
    entry = next((entry for entry in entries if entry.kind == kind and entry.current), None)
    saved = entry.time if entry else annotations.saved(where) or 0
    return replace(_contents(kind, content), time=saved, entry=entry)


def _version(where: Path, entries: Mapping[str, Entry], version: str) -> Shown:
    entry = entries.get(version)
    if entry is None:
        raise NoSuchVersion
    content = content_of(where, entry.kind, version)
    assert content is not None
    return replace(_contents(entry.kind, content), time=entry.time, entry=entry, current=entry.current)


def _contents(kind: str, content: bytes) -> Shown:
    """Return the content of a file, and remember it, because a page is often requested more than once."""
    key = f"{kind} {digest(content)}"
    shown = _remembered.get(key)
    if shown is None:
        shown = _counted(kind, content)
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()  # another thread may clear it at any moment
        _remembered[key] = shown
    return shown


def _counted(kind: str, content: bytes) -> Shown:
    try:
        if kind == "labels":
            categories = [category(name, counts) for name, counts in count_labels(content).items()]
            return Shown(kind, 0, categories=categories[:MAX_CATEGORIES], more=len(categories[MAX_CATEGORIES:]))
        sets = [Bar(each.name, len(each.genes)) for each in read_gene_sets(content).values()]
    except Malformed as reason:
        return Shown(kind, 0, problem=str(reason))
    return Shown(kind, 0, sets=sets[:MAX_BARS], more=len(sets[MAX_BARS:]))


def category(name: str, counts: Mapping[str, int]) -> Category:
    """Return a column as bars, the most frequent label first."""
    bars = [Bar(label, count) for label, count in counts.items() if label != UNASSIGNED]
    cells, labelled = sum(counts.values()), sum(bar.count for bar in bars)
    return Category(name, cells, labelled, len(bars), bars[:MAX_BARS], len(bars[MAX_BARS:]))


def _offer(folder: Path, record: DatasetRecord, columns: Collection[str]) -> Offer:
    contents: dict[str, bytes | None] = {}
    for kind, name in NAMES.items():
        with contextlib.suppress(OSError):
            contents[kind] = annotations.read(folder, name)
    shown = [_contents(kind, content) for kind, content in contents.items() if content]
    categories = [replace(each, bars=()) for one in shown for each in one.categories]
    return Offer(
        folder=folder.name,
        name=record.name,
        path=record.path,
        saved=annotations.saved(folder),
        cells=record.cells,
        categories=[each for each in categories if each.name not in columns],
        own=[each.name for each in categories if each.name in columns],
        gene_sets=sum(len(one.sets) + one.more for one in shown if one.kind == "gene-sets"),
    )
