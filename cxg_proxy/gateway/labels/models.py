"""The models of the labels pages: plain data about one dataset, which the templates put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cxg_proxy.annotations.alignment import Checked

from .outbox import Sent


@dataclass(frozen=True)
class Change:
    """What a version changed in one category or gene set; `count` is in cells or genes."""

    how: str  # first, new, removed or changed; `rows` concerns the whole table
    name: str = ""
    count: int = 0


@dataclass(frozen=True)
class Entry:
    """One version in the list. Times are in seconds since 1970."""

    id: str
    kind: str  # labels or gene-sets
    time: float
    size: int
    rows: int
    origin: str
    changes: Sequence[Change] = ()
    more: int = 0  # changes that are not listed
    replaced: Sequence[str] = ()  # what somebody else had also changed, in the version `before`
    before: str = ""  # id of the next older version of its kind, "" if there is none
    lost: bool = False  # part of it was replaced by a save from elsewhere
    current: bool = False
    shown: bool = False


@dataclass(frozen=True)
class Day:
    """The versions of one day, the latest first; the `folded` ones are listed only on request."""

    time: float
    entries: Sequence[Entry]
    folded: Sequence[Entry] = ()
    open: bool = False  # the version that is shown is among the folded ones


@dataclass(frozen=True)
class Bar:
    """A bar with the number of cells that have a label, or of genes in a set."""

    name: str
    count: int


@dataclass(frozen=True)
class Category:
    """A column of labels: the most frequent labels, and the number of the remaining ones."""

    name: str
    cells: int
    labelled: int
    labels: int
    bars: Sequence[Bar]
    more: int = 0


@dataclass(frozen=True)
class Shown:
    """The content of one version, or of the current file."""

    kind: str
    time: float
    entry: Entry | None = None  # None: the current file, which no version holds yet
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
    href: str  # link of the viewer
    page: str  # link of this page
    api: str  # link below which changes and downloads are
    shown: Sequence[Shown] = ()
    days: Sequence[Day] = ()
    older: Sequence[Day] = ()
    versions: int = 0
    saved: Sequence[str] = ()  # the kinds (labels, gene-sets) that have a saved file now
    there: bool = True  # whether the dataset's file exists on this machine
    large: bool = False  # whether it is too large for some hosts to pass on with its labels
    offers: Sequence[Offer] = ()
    looking: bool = False  # whether offers or the fit are still being determined
    fit: Checked | None = None  # how the current labels fit, if the dataset's cells have changed since
    said: str = ""  # what was done a moment ago: restored, adopted, uploaded, sent
    of: float | None = None  # the time of the version that was restored
    waiting: str = ""  # link of the upload that waits to be saved
    sender: str = ""  # where labels can be saved besides the home, such as a host's history
    sent: Sent | None = None


@dataclass(frozen=True)
class UploadView:
    """An uploaded table that has been checked; nothing of it is written yet."""

    name: str
    label: str
    page: str
    api: str
    id: str
    file: str
    checked: Checked = field(default_factory=lambda: Checked(0, 0, 0, 0))
