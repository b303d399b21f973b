"""Makes the parts of a gateway from its options, and puts them on the desk that the handlers work at."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxg_proxy.annotations import directory, named, saved
from cxg_proxy.gateway.labels.outbox import Outbox
from cxg_proxy.gateway.labels.recognition import Recognition
from cxg_proxy.gateway.labels.uploads import Uploads
from cxg_proxy.gateway.library.dataset import Dataset, escape
from cxg_proxy.gateway.library.library import REMOTE, Library, alone, folders, other_name
from cxg_proxy.gateway.library.remote import Remotes
from cxg_proxy.gateway.library.visits import Visits
from cxg_proxy.gateway.workers.command import OURS, SCRIPTS, Command, Place, clean_environment, real_worker
from cxg_proxy.gateway.workers.fork_server import Preload
from cxg_proxy.gateway.workers.instance import Limits
from cxg_proxy.gateway.workers.instances import Instances
from cxg_proxy.gateway.workers.jobs import Children
from cxg_proxy.gateway.workers.summaries import Summaries

from .catalogue import Catalogue
from .options import Options


class Parts:
    """The parts of one gateway; `sockets` is the private folder of its workers, `around` the environment it has."""

    def __init__(self, told: Options, sockets: Path, around: Mapping[str, str]):
        self._told, self._sockets, self._around = told, sockets, around
        self._label_folders = functools.lru_cache(maxsize=100_000)(self._labels)

    def desk(self, port: int, touched: Callable[[], None]) -> Desk:
        """What the handlers work with; `touched` is told of every request."""
        cache = _folder(self._told.cache)
        remotes = Remotes(cache / REMOTE, self._told.remotes)
        self._copies = remotes.folder
        library = self._library()
        environment = clean_environment(self._around, self._told.viewer_environment)
        visits = Visits(cache / "visits.json")
        viewer = [self._told.viewer_python, "-m", "cxg_proxy.viewer"]
        preload = self._preload(viewer, environment)
        place = Place(self._sockets, _folder(self._told.logs), environment, preload)
        instances = Instances(self._worker(), place, self._limits(), visits, remotes.fetch)
        summaries = Summaries(cache / "summaries", [*viewer, "summarize"], cwd=self._sockets, environment=environment)
        children = Children(viewer, self._options, cache / "exports", cwd=self._sockets, environment=environment)
        most, share = self._told.scan_limit, functools.partial(self._share, library)
        catalogue = Catalogue(library, most, summaries, visits, instances, saved=self._saved, share=share)
        return Desk(
            title=self._told.title,
            library=library,
            catalogue=catalogue,
            summaries=summaries,
            instances=instances,
            preload=preload,
            children=children,
            uploads=Uploads(children),
            recognition=Recognition(_folder(self._told.home), self._labels_of, summaries, children),
            outbox=Outbox(self._told.sender) if self._told.sender else None,
            folder=_folder(self._told.root or os.curdir),  # or where a person has started us
            home=_folder(self._told.home),
            labels=self._labels_of,
            alone=bool(self._told.dataset),
            history_limit=self._told.history_limit,
            token="" if self._told.socket else self._told.token or secrets.token_urlsafe(24),
            xsrf=secrets.token_urlsafe(24),
            cookie=f"cxg-proxy-{port}",
            prefix_header=self._told.prefix_header,
            frame_ancestors=self._told.frame_ancestors,
            read_only=self._told.read_only,
            max_body=self._told.max_body,
            memory_limit=self._told.memory_limit,
            touched=touched,
        )

    def _preload(self, viewer: Sequence[str], environment: Mapping[str, str]) -> Preload:
        # One dataset alone is opened at once: nothing would be loaded before it.
        seconds = 0 if self._told.dataset else self._told.preload_idle_seconds
        log = _folder(self._told.logs) / "preload.log"
        return Preload(viewer, idle_seconds=seconds, cwd=self._sockets, environment=environment, log=log)

    def _library(self) -> Library:
        told = self._told
        found = self._alone() if told.dataset else folders(told.libraries, told.root)
        follow = told.follow_symlinks if told.follow_symlinks is not None else not told.read_only
        return Library(found, follow_symlinks=follow or bool(told.dataset), copies=self._copies, remotes=told.remotes)

    def _share(self, library: Library, dataset: Dataset) -> str:
        """The link for a colleague; none where each has a folder of their own under the same name."""
        told, name = self._told, "" if self._told.dataset else dataset.name
        if told.share_prefix and dataset.library == "home" and not told.share_home:
            name = other_name(library.roots, dataset)
        return f"{told.share_prefix}view/{escape(name)}/" if name else ""

    def _alone(self) -> dict[str, Path]:
        title = self._told.title if self._told.title != type(self._told).title.default_value else ""
        return alone(self._told.dataset, title, self._sockets)

    def _limits(self) -> Limits:
        return Limits(
            most=self._told.max_instances,
            idle_seconds=self._told.idle_seconds,
            start_timeout=self._told.start_timeout,
            in_use_seconds=self._told.in_use_seconds,
        )

    def _worker(self) -> Command:
        more = ["--threads", str(self._told.viewer_threads), "--history-limit", str(self._told.history_limit)]
        more += ["--diffexp-workers", str(self._told.diffexp_workers)]
        more += ["--diffexp-max-cells", str(self._told.diffexp_max_cells)] if self._told.diffexp_max_cells else []
        more += ["--memory-limit", str(self._told.memory_limit)] if self._told.memory_limit else []
        more += ["--read-only"] if self._told.read_only else []
        more += ["--cache", str(_folder(self._told.cache)), "--build-memory", str(self._told.build_memory)]
        more += ["--shared-cache", str(_folder(self._told.shared_cache))] if self._told.shared_cache else []
        more += ["--cache-limit", str(self._told.cache_limit)] if self._told.cache_limit is not None else []
        return real_worker(self._told.viewer_python, self._options, self._labels_of, more)

    def _options(self, dataset: Dataset) -> dict[str, Any]:
        """cellxgene's options for a dataset; whatever scripts they name, ours come first."""
        options = {**self._told.viewer_options, **self._told.dataset_options.get(dataset.name, {})}
        scripts = options.get("scripts") or []
        ours = [OURS + name for name in SCRIPTS]
        return {**options, "scripts": [*ours, *(scripts if isinstance(scripts, list) else [scripts])]}

    def _labels_of(self, dataset: Dataset) -> Path:
        return self._labels(dataset.real)

    def _labels(self, real: Path) -> Path:
        if self._told.labels_folder:
            return _folder(self._told.labels_folder)
        home = _folder(self._told.home)
        return named(home, f"{REMOTE}/{real.name}") if real.parent == self._copies else directory(home, real)

    def _saved(self, files: Iterable[Path]) -> dict[Path, float]:
        """When labels of these files were saved last; the home is listed once, however many files there are."""
        try:
            there = set(os.listdir(_folder(self._told.home)))
        except OSError:
            return {}
        return {
            file: when
            for file in files
            if (folder := self._label_folders(file)).name in there and (when := saved(folder)) is not None
        }


def _folder(name: str) -> Path:
    """Absolute, for the workers run elsewhere."""
    return Path(name).expanduser().absolute()


@dataclass
class Desk:
    """What the handlers work with; made once by the application."""

    title: str
    library: Library
    catalogue: Catalogue
    summaries: Summaries
    instances: Instances
    preload: Preload
    children: Children
    uploads: Uploads
    recognition: Recognition
    outbox: Outbox | None  # the way to the host's history, where it has one
    folder: Path  # the host's own, in which relative paths begin
    home: Path  # of all labels
    labels: Callable[[Dataset], Path]  # the folder of this user's labels for a dataset
    history_limit: int
    alone: bool  # one dataset is shown, and no list
    token: str  # "" behind a unix socket, where the file's permissions are the lock
    xsrf: str
    cookie: str
    prefix_header: str  # names the prefix of the proxy in front, "" if none does
    frame_ancestors: str  # a site that may show our pages in a frame, beside our own
    read_only: bool
    max_body: int
    memory_limit: int
    touched: Callable[[], None]  # told of every request, for the gateway's own idle end
