"""The catalogue of datasets as a user sees it: searched, sorted, cut into pages, with what is known of each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from cxg_proxy.errors import DatasetNotFound, NotReadable, StorageSilent
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset, escape
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.scan import Scan
from cxg_proxy.gateway.library.visits import Visits
from cxg_proxy.gateway.pages.models import DatasetCard, FolderCard, LibraryView
from cxg_proxy.gateway.workers.instances import Instances
from cxg_proxy.gateway.workers.summaries import Summaries

PAGE = 60  # datasets on one page
MAX_READ = 2000  # datasets whose summaries are read in order to sort by them
FEW = 30  # up to this many datasets are shown without their folders
FRESH_SECONDS = 2.0  # the age after which a list is scanned again
PATIENCE_SECONDS = 0.15  # how long a page waits for that before it shows the list as it is
LOOK_SECONDS = 5.0  # how long a search for one file waits, because the file is in the list or nowhere

SORTS = ("name", "cells", "size", "opened")


class Catalogue:
    """Everything that the list shows, from the scan of the folders, the summaries, the visits and the instances."""

    def __init__(
        self,
        library: Library,
        limit: int,
        summaries: Summaries,
        visits: Visits,
        instances: Instances,
        *,
        saved: Callable[[Iterable[Path]], Mapping[Path, float]],
        share: Callable[[Dataset], str],
    ) -> None:
        self.library = library
        self.limit = limit
        self._scans = [Scan(library, limit, name) for name in library.names]
        self._summaries, self._visits, self._instances = summaries, visits, instances
        self._saved, self.share = saved, share
        self._walks: dict[str | None, asyncio.Task[None]] = {}
        self._walked: dict[str | None, float] = {}
        self._labels: dict[str | None, Mapping[Path, float]] = {}

    async def refresh(self, *, patience: float = PATIENCE_SECONDS) -> None:
        """Scan each library again if its list is old; a slow disk is waited for only `patience` seconds."""
        for scan in self._scans:
            walk = self._walks.get(scan.only)
            if walk is None or (walk.done() and time.monotonic() - self._walked[scan.only] > FRESH_SECONDS):
                self._walks[scan.only] = asyncio.ensure_future(self._look(scan))
        if self._walks:
            await asyncio.wait(self._walks.values(), timeout=patience)

    async def _look(self, scan: Scan) -> None:
        try:
            await on_disk(lambda: scan.run(time.time_ns()), place=f"walk {scan.only}", patience=None)
            files = [each.real for each in scan.datasets]
            self._labels[scan.only] = await on_disk(lambda: self._saved(files), patience=None)
        except StorageSilent as problem:  # too many calls wait already
            logging.getLogger(__name__).warning("%s", problem)
        finally:
            self._walked[scan.only] = time.monotonic()

    async def listed(self, path: Path, *, place: str) -> Dataset | None:
        """Return the listed dataset that is the file at `path`, whatever link leads to it, or None.

        `place` names the disk of the path.
        """
        dataset = await on_disk(lambda: self._same(path), place=place)
        if dataset is None:
            await self.refresh(patience=LOOK_SECONDS)
            dataset = await on_disk(lambda: self._same(path), place=place)
        return dataset

    def _same(self, path: Path) -> Dataset | None:
        """Return the listed dataset that is the file at `path`, or None.

        Accesses the disk, because the path of a listed dataset may lead elsewhere by now.
        """
        real = Path(os.path.realpath(path))
        for each in self._datasets():
            with contextlib.suppress(DatasetNotFound, NotReadable):
                if each.real == real and self.library.named(each.name).real == real:
                    return each
        return None

    @property
    def complete(self) -> bool:
        """Whether each library has been scanned."""
        return all(scan.complete for scan in self._scans)

    def _datasets(self) -> list[Dataset]:
        return [dataset for scan in self._scans for dataset in list(scan.datasets)]

    def _problems(self) -> dict[str, str]:
        return {name: detail for scan in self._scans for name, detail in scan.problems.items()}

    def view(self, *, query: str = "", folder: str = "", sort: str = "name", page: int = 1) -> LibraryView:
        """Return one page of the list: the datasets that match `query` below `folder`, or those directly in it."""
        sort = sort if sort in SORTS else "name"
        top = not folder
        if top and len(self.library.names) == 1 and not self._problems():
            folder = self.library.names[0]  # one library needs no card of its own
        datasets = self._datasets()
        inside = [each for each in datasets if not folder or each.name.startswith(folder + "/")]
        flat = bool(query) or (top and len(datasets) <= FEW)
        shown = [each for each in inside if _matches(each, query)] if flat else _in_folder(inside, folder)
        pages = max(1, -(-len(shown) // PAGE))
        page = min(max(1, page), pages)
        on_page = sorted(shown, key=lambda each: self._rank(each, sort))[(page - 1) * PAGE : page * PAGE]
        if sort == "cells":
            self._summaries.want(shown[:MAX_READ])  # they can be sorted only once they have been read
        self._summaries.want(on_page)
        return LibraryView(
            datasets=[self._card(each) for each in on_page],
            folders=[each for each in self._folders(inside, folder) if not flat or (each.problem and not query)],
            crumbs=[] if top else _crumbs(folder),
            query=query,
            folder="" if top else escape(folder),
            total=len(shown),
            open=len(self._instances.running()),
            sort=sort,
            page=page,
            pages=pages,
            scanning=None if self.complete else len(datasets),
            limit=self.limit if any(scan.cut for scan in self._scans) else None,
            roots=[(name, str(root)) for name, root in self.library.roots.items()],
        )

    def card_of(self, dataset: Dataset) -> DatasetCard:
        """Return the card of one dataset."""
        self._summaries.want([dataset])
        return self._card(dataset)

    @property
    def count(self) -> int:
        """The number of datasets found."""
        return len(self._datasets())

    def _rank(self, dataset: Dataset, sort: str) -> tuple[float, str]:
        """Return what to sort by: the largest and the latest first, the unknown last, then the name."""
        name = dataset.name.lower()
        if sort == "cells":
            summary = self._summaries.get(dataset)
            return (-(summary.cells or 0) if summary else 0, name)
        if sort == "opened":
            visit = self._visits.get(dataset.real)
            return (-visit.opened if visit else 0, name)
        return (-dataset.bytes if sort == "size" else 0, name)

    def _card(self, dataset: Dataset) -> DatasetCard:
        summary = self._summaries.get(dataset)
        visit = self._visits.get(dataset.real)
        card = DatasetCard(
            name=dataset.name,
            label=dataset.label,
            folder=dataset.folder,
            href=f"view/{dataset.address}/",
            bytes=dataset.bytes if dataset.exists else None,
            modified=dataset.modified_ns / 1e9 if dataset.exists else None,
            opened=visit.opened if visit else None,
            labels=f"annotations/{dataset.address}",
            labels_saved=self._saved_at(dataset),
            share=self.share(dataset),
            pending=summary is None and dataset.exists,
        )
        if summary is not None:
            card = replace(
                card,
                cells=summary.cells,
                genes=summary.genes,
                embeddings=summary.embeddings,
                problem=summary.problem,
                preview=f"api/preview/{dataset.address}" if summary.drawn else "",
            )
        instance = self._instances.of(dataset.real)
        if instance is not None and not instance.over:
            card = replace(card, phase=instance.phase.value, instance=instance.id)
        return card

    def _saved_at(self, dataset: Dataset) -> float | None:
        return self._labels.get(dataset.library, {}).get(dataset.real)

    def _folders(self, inside: list[Dataset], folder: str) -> list[FolderCard]:
        """Return the folders directly below `folder`; at the top, all libraries, even empty or unreadable ones."""
        counts = dict.fromkeys(self.library.roots, 0) if not folder else {}
        start = len(folder) + 1 if folder else 0
        for dataset in inside:
            name, slash, _ = dataset.name[start:].partition("/")
            if slash:
                counts[name] = counts.get(name, 0) + 1
        at = f"{folder}/" if folder else ""
        problems = {} if folder else self._problems()
        return [
            FolderCard(name, f"?folder={escape(at + name)}", count, problems.get(name, ""))
            for name, count in sorted(counts.items(), key=lambda item: item[0].lower())
        ]


def _matches(dataset: Dataset, query: str) -> bool:
    name = dataset.name.lower()
    return all(word in name for word in query.lower().split())


def _in_folder(datasets: list[Dataset], folder: str) -> list[Dataset]:
    return [each for each in datasets if each.folder == folder]


def _crumbs(folder: str) -> list[tuple[str, str]]:
    parts = folder.split("/") if folder else []
    return [(part, f"?folder={escape('/'.join(parts[: n + 1]))}") for n, part in enumerate(parts)]
