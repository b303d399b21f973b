"""The recognition of a dataset by its cells: labels under another name that fit it, and labels that no longer do."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from cxg_proxy import annotations
from cxg_proxy.annotations.alignment import Checked
from cxg_proxy.errors import Problem
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.workers.jobs import Jobs
from cxg_proxy.gateway.workers.summaries import Summaries

from . import timeline
from .models import Offer

_REMEMBERED = 200

Key = tuple[object, ...]


class Recognition:
    """Finds out in the background which labels fit a dataset's cells, and remembers the results."""

    def __init__(self, home: Path, labels: Callable[[Dataset], Path], summaries: Summaries, jobs: Jobs) -> None:
        self.home = home
        self._labels, self._summaries, self._jobs = labels, summaries, jobs
        self._fits: dict[Key, Checked | None] = {}
        self._looks: dict[Key, asyncio.Task[None]] = {}
        self._offered: dict[Key, bool] = {}

    def identifiers(self, dataset: Dataset) -> str | None:
        """Return the digest of the dataset's cells, None if it is not known (yet)."""
        self._summaries.want([dataset])
        summary = self._summaries.get(dataset)
        return summary.identifiers if summary else None

    def columns(self, dataset: Dataset) -> frozenset[str]:
        """Return the dataset's own columns, as far as known: the viewer shows no labels with such names."""
        summary = self._summaries.get(dataset)
        return frozenset(summary.columns if summary else ())

    def looking(self, dataset: Dataset) -> bool:
        """Whether the dataset's cells, or how its labels fit them, are still being determined."""
        return (dataset.exists and self._summaries.get(dataset) is None) or dataset.fingerprint in self._waiting

    @property
    def _waiting(self) -> set[object]:
        return {key[0] for key, look in self._looks.items() if not look.done()}

    async def offers(self, dataset: Dataset) -> list[Offer]:
        """Return the labels of other datasets that have these cells."""
        identifiers = self.identifiers(dataset)
        if identifiers is None:
            return []
        where, columns = self._labels(dataset), self.columns(dataset)
        return await on_disk(
            lambda: timeline.offers(self.home, identifiers, excluding=where, columns=columns), place="labels"
        )

    async def offered(self, dataset: Dataset) -> bool:
        """Whether a dataset without labels has such offers; a "no" is final for this state of its file."""
        identifiers = self.identifiers(dataset)
        key: Key = (dataset.fingerprint,)
        if identifiers is not None and self._offered.get(key, True):  # an offer that was taken up is none any more
            where, columns = self._labels(dataset), self.columns(dataset)
            self._offered[key] = False  # so that a home that hangs is not accessed again and again
            self._forget(self._offered)
            self._offered[key] = await on_disk(lambda: _offered(self.home, identifiers, where, columns), place="labels")
        return self._offered.get(key, False)

    def record(self, dataset: Dataset) -> Callable[[], annotations.DatasetRecord] | None:
        """Return a function for the record to write beside labels, None if the cells are not known."""
        summary = self._summaries.get(dataset)
        if summary is None or summary.identifiers is None:
            return None
        name = annotations.display_name(str(dataset.real))
        record = annotations.DatasetRecord(name, str(dataset.real), summary.cells, summary.identifiers)
        return lambda: record

    async def fit(self, dataset: Dataset) -> Checked | None:
        """Return how the saved labels fit the dataset if its cells have changed since; None if not, or not known."""
        identifiers, where = self.identifiers(dataset), self._labels(dataset)
        record, version = await on_disk(
            lambda: (annotations.read_record(where), annotations.version(where, annotations.LABELS)), place="labels"
        )
        if version is None or identifiers is None or record is None or record.identifiers in (None, identifiers):
            return None
        key: Key = (dataset.fingerprint, version)
        if key not in self._fits and key not in self._looks:
            self._looks[key] = asyncio.ensure_future(self._look(key, dataset, where))
        return self._fits.get(key)

    async def _look(self, key: Key, dataset: Dataset, where: Path) -> None:
        checked = None
        try:
            async with self._jobs.folder() as folder:
                checked = await self._jobs.check(dataset, where, where / annotations.LABELS, folder / "checked.csv")
        except Problem as problem:
            logging.getLogger(__name__).info("%s", problem)
        finally:
            self._looks.pop(key, None)
        self._fits[key] = checked
        self._forget(self._fits)

    @staticmethod
    def _forget(remembered: dict[Key, object] | dict[Key, Checked | None] | dict[Key, bool]) -> None:
        while len(remembered) > _REMEMBERED:
            del remembered[next(iter(remembered))]

    async def close(self) -> None:
        """Stop the checks in the background."""
        for look in list(self._looks.values()):
            look.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._looks.values(), return_exceptions=True)


def _offered(home: Path, identifiers: str, where: Path, columns: frozenset[str]) -> bool:
    return annotations.saved(where) is None and bool(
        timeline.offers(home, identifiers, excluding=where, columns=columns)
    )
