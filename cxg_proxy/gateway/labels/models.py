"""What the pages of labels show of one dataset, as plain data; the words around it are the templates'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cxg_proxy.annotations.alignment import Checked

from .outbox import Sent


@dataclass(frozen=True)
class Change:
    """What a version did to one category or gene set; `count` is in cells or genes."""

    how: str  # first, new, removed, changed; `rows` is the table itself
    name: str = ""
    count: int = 0


@dataclass(frozen=True)
class Entry:
    """One version in the list. Times are seconds since 1970."""

    id: str
    kind: str  # labels or gene-sets
    time: float
    size: int
    rows: int
    origin: str
    changes: Sequence[Change] = ()
    more: int = 0  # changes that are not listed
    replaced: Sequence[str] = ()  # what somebody else had changed too, in the version `before`
    before: str = ""  # id of the next older version of its kind, "" if there is none
    lost: bool = False  # part of it was replaced by a save from elsewhere
    current: bool = False
    shown: bool = False


@dataclass(frozen=True)
class Day:
    """The versions of one day, the latest first; `folded` ones are listed only when asked for."""

    time: float
    entries: Sequence[Entry]
    folded: Sequence[Entry] = ()
    open: bool = False  # the version that is shown is among the folded ones


@dataclass(frozen=True)
class Bar:
    """How many cells have a label, or how many genes a set has."""

    name: str
    count: int


@dataclass(frozen=True)
class Category:
    """A column of labels: the most frequent ones, and how many more there are."""

    name: str
    cells: int
    labelled: int
    labels: int
    bars: Sequence[Bar]
    more: int = 0


@dataclass(frozen=True)
class Shown:
    """What is in one version, or in the current file."""

    kind: str
    time: float
    entry: Entry | None = None  # None: the current file, that no version holds yet
    current: bool = True
    categories: Sequence[Category] = ()
    more: int = 0  # categories or gene sets that are not listed
    sets: Sequence[Bar] = ()
    problem: str = ""  # why it cannot be read, as a sentence


@dataclass(frozen=True)
class Offer:
    """Labels of another dataset with the same cells."""

    folder: str
    name: str
    path: str
    saved: float | None
    cells: int | None
    categories: Sequence[Category] = ()
    gene_sets: int = 0
    own: Sequence[str] = ()  # categories that are columns of this dataset, and are not taken over


@dataclass(frozen=True)
class LabelsView:
    """The page of one dataset's labels. Links are relative to the gateway's root."""

    name: str
    label: str
    href: str  # of the viewer
    page: str  # of this page
    api: str  # of what changes and downloads
    shown: Sequence[Shown] = ()
    days: Sequence[Day] = ()
    older: Sequence[Day] = ()
    versions: int = 0
    saved: Sequence[str] = ()  # the kinds of which something is saved now
    there: bool = True  # the dataset's file is here
    large: bool = False  # too large for some hosts to hand on with its labels
    offers: Sequence[Offer] = ()
    looking: bool = False  # what is said about other labels or other cells is being found out
    fit: Checked | None = None  # how the current labels fit, when the dataset's cells are others than before
    said: str = ""  # what was done a moment ago: restored, adopted, uploaded
    of: float | None = None  # the time of the version that was restored
    waiting: str = ""  # link of an upload that waits to be saved
    sender: str = ""  # what labels can be saved to beside the home, such as a host's history
    sent: Sent | None = None


@dataclass(frozen=True)
class UploadView:
    """An uploaded table, checked; nothing of it is written yet."""

    name: str
    label: str
    page: str
    api: str
    id: str
    file: str
    checked: Checked = field(default_factory=lambda: Checked(0, 0, 0, 0))
