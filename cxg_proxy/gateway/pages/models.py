"""The models of the pages: plain data for the templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cxg_proxy.errors import Problem


@dataclass(frozen=True)
class Site:
    """What every page shows: the site's title, the link from this page to the gateway's root, and the form token.

    `root` is "" on the library page and "../" repeated on deeper ones, so that no link depends on the prefix that a
    host adds. `xsrf` goes into every form as the hidden field `_xsrf`. `now` is in seconds since 1970.
    """

    title: str
    root: str
    xsrf: str
    now: float
    read_only: bool = False
    alone: bool = False  # one dataset is shown, and there is no list to link to


@dataclass(frozen=True)
class FolderCard:
    """A folder (or a whole library) in the list: its link, and the number of datasets below it."""

    name: str
    href: str
    datasets: int
    problem: str = ""  # why the library's root cannot be listed, "" if it can


@dataclass(frozen=True)
class DatasetCard:
    """A dataset in the list. Times are in seconds since 1970; None means unknown (yet) or never."""

    name: str  # <library>/<path>, for people
    label: str  # the file name without .h5ad
    folder: str  # the folder that it lies in, shown in search results
    href: str  # relative to the gateway's root
    bytes: int | None  # None: at a remote address and not downloaded yet
    modified: float | None
    cells: int | None = None
    genes: int | None = None
    embeddings: Sequence[str] = ()
    preview: str = ""  # link of an SVG picture, "" if there is none
    pending: bool = False  # its summary is being read
    problem: Problem | None = None
    phase: str = ""  # of its running instance, "" if none
    instance: str = ""  # id of its instance, "" if none
    opened: float | None = None
    labels: str = ""  # link of the page of its labels
    labels_saved: float | None = None
    share: str = ""  # link to send to a colleague


@dataclass(frozen=True)
class InstanceRow:
    """A running (or failed) viewer. Memory is in bytes, CPU in percent of one core, times in seconds since 1970."""

    id: str
    name: str
    href: str
    phase: str
    since: float
    used: float
    memory: int | None = None
    memory_limit: int | None = None
    cpu: float | None = None
    exchanges: int = 0  # the number of requests in progress
    log: Sequence[str] = ()
    problem: Problem | None = None


@dataclass(frozen=True)
class LibraryView:
    """One page of the list of datasets."""

    datasets: Sequence[DatasetCard]
    folders: Sequence[FolderCard] = ()
    crumbs: Sequence[tuple[str, str]] = ()  # (text, link); the last one is this page
    query: str = ""
    folder: str = ""  # address of the folder shown, "" at the top
    total: int = 0  # datasets that match, on all pages
    open: int = 0  # running instances
    sort: str = "name"  # name, cells, size or opened
    page: int = 1
    pages: int = 1
    scanning: int | None = None  # datasets found so far while the first scan still runs
    limit: int | None = None  # the scan limit, if it cut the list short
    roots: Sequence[tuple[str, str]] = ()  # (library, directory), to say where to put files


@dataclass(frozen=True)
class OpeningView:
    """What is known while a dataset is being opened."""

    name: str
    label: str
    instance: str
    phase: str
    done: float | None
    elapsed: float
    expected: float | None
    progress: str  # link of the event stream, relative to the gateway's root
    preview: str = ""
    file: str = ""


@dataclass(frozen=True)
class ProblemView:
    """A problem, and what the user can do about it here."""

    problem: Problem
    name: str = ""
    instance: str = ""  # “Try again” posts to this instance, or just reloads if there is none
    running: Sequence[InstanceRow] = field(default=())  # the instances to stop, if there are too many
    href: str = ""  # of this page, relative to the gateway's root, for the way back after Stop
    at_viewer: bool = False  # whether the page is shown at the viewer's own address


@dataclass(frozen=True)
class Machine:
    """The machine's memory in bytes and its number of cores."""

    memory: int
    available: int
    cores: int
