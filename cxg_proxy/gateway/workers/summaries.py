"""The summaries of datasets (cells, genes, embeddings, a preview), read by a short-lived child and remembered.

The gateway itself never opens a dataset: a file that makes its reader crash, hang or grow can only end that child.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxg_proxy.errors import DamagedFile, Problem, ViewerMissing
from cxg_proxy.files.atomic import write_whole
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset

from .process import describe_status
from .report import LOG_LINES, Report, reporting

RETRY_SECONDS = 60  # a problem, such as a missing permission, may go away without a change of the file
FORMAT = 3  # increased when the content of a summary changes


@dataclass(frozen=True)
class Summary:
    """What the list shows of a dataset. The points of its picture stay on disk; `drawn` says whether there are any."""

    cells: int | None = None
    genes: int | None = None
    embeddings: tuple[str, ...] = ()
    drawn: bool = False
    identifiers: str | None = None  # `annotations.identifiers_digest` of the cells
    columns: tuple[str, ...] = ()  # of the cells' table; labels cannot have these names
    problem: Problem | None = None

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Summary:
        """Read what the child wrote; raises ValueError, KeyError or TypeError for anything else."""
        problem = data["problem"]
        return Summary(
            cells=None if data["cells"] is None else int(data["cells"]),
            genes=None if data["genes"] is None else int(data["genes"]),
            embeddings=tuple(str(name) for name in data["embeddings"]),
            drawn=data["preview"] is not None,
            identifiers=None if data.get("identifiers") is None else str(data["identifiers"]),
            columns=tuple(str(name) for name in data.get("columns", ())),
            problem=None if problem is None else Problem.from_json(problem),
        )


class Summaries:
    """The summaries by the fingerprint of their file: in memory, on disk, or still wanted."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        patience: float = 60.0,
    ) -> None:
        self.folder = folder
        self.patience = patience  # seconds for one file
        self._command = command
        self._cwd = cwd
        self._environment = environment
        self._summaries: dict[tuple[str, int, int, int], Summary] = {}
        self._failed: dict[tuple[str, int, int, int], float] = {}
        self._wanted: dict[tuple[str, int, int, int], Dataset] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def get(self, dataset: Dataset) -> Summary | None:
        """Return the summary of the file as it is now, None if it has not been read yet."""
        return self._summaries.get(dataset.fingerprint)

    async def preview(self, dataset: Dataset) -> dict[str, Any] | None:
        """Return the plain data that `thumbnail.draw` turns into a picture, None if there is none."""
        summary = self.get(dataset)
        if summary is None or not summary.drawn:
            return None
        try:
            points: dict[str, Any] = json.loads(await on_disk(self._file(dataset).read_bytes))["preview"]
        except (OSError, ValueError, KeyError):  # the cache was cleared meanwhile
            return None
        return points

    def want(self, datasets: Sequence[Dataset]) -> None:
        """Read these datasets soon, before any that were wanted earlier."""
        now = time.monotonic()
        for key in [key for key, when in self._failed.items() if now - when > RETRY_SECONDS]:
            del self._failed[key]
        new = {
            each.fingerprint: each
            for each in datasets
            if each.exists
            and each.fingerprint not in self._failed
            and ((summary := self._summaries.get(each.fingerprint)) is None or summary.problem is not None)
        }
        if new and not self._closed:
            self._wanted = {**new, **{key: each for key, each in self._wanted.items() if key not in new}}
            if self._task is None or self._task.done():
                self._task = asyncio.ensure_future(self._read_wanted())

    async def close(self) -> None:
        """Stop reading."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read_wanted(self) -> None:
        try:
            await self._read_until_none_is()
        except Problem as problem:  # the disk does not respond; the next look at the list tries again
            self._wanted.clear()
            logging.getLogger(__name__).warning("%s", problem)

    async def _read_until_none_is(self) -> None:
        while self._wanted:
            datasets = list(self._wanted.values())
            for dataset in await on_disk(functools.partial(self._recall, datasets), patience=None):
                self._wanted.pop(dataset.fingerprint, None)
            if self._wanted:
                await self._read_with_child()

    async def _read_with_child(self) -> None:
        """Let one child read everything that is wanted; a file that ends it is recorded as the cause."""
        log: deque[str] = deque(maxlen=LOG_LINES)
        try:
            async with reporting(
                self._command, "", log, cwd=self._cwd, environment=self._environment, patience=0.5
            ) as report:
                lines = report.child.lines()
                while self._wanted:
                    dataset = next(iter(self._wanted.values()))
                    await report.child.write(json.dumps(str(dataset.file)).encode() + b"\n")
                    try:
                        line = await asyncio.wait_for(anext(lines), self.patience)
                        data = json.loads(line)
                        summary = Summary.from_json(data)
                    except (asyncio.TimeoutError, StopAsyncIteration, ValueError, KeyError, TypeError) as reason:
                        await self._give_up(dataset, report, reason)
                        return
                    await self._learn(dataset, summary, data)
        except ViewerMissing as problem:
            await self._all_fail(problem)

    async def _give_up(self, dataset: Dataset, report: Report, reason: Exception) -> None:
        detail = f"it could not be read within {self.patience:.0f} s"
        if isinstance(reason, StopAsyncIteration):
            detail = f"the program that reads it stopped: {describe_status(await report.status())}"
        if missing := report.missing():
            raise missing
        await self._learn(dataset, Summary(problem=DamagedFile(dataset.label, detail=detail, log=report.log)))

    async def _all_fail(self, problem: Problem) -> None:
        for dataset in list(self._wanted.values()):
            await self._learn(dataset, Summary(problem=problem))

    async def _learn(self, dataset: Dataset, summary: Summary, data: object = None) -> None:
        if summary.problem is not None:
            self._failed[dataset.fingerprint] = time.monotonic()
        elif not await on_disk(lambda: self._keep(dataset, data), patience=None):
            summary = replace(summary, drawn=False)
        self._summaries[dataset.fingerprint] = summary
        self._wanted.pop(dataset.fingerprint, None)

    def _file(self, dataset: Dataset) -> Path:
        key = hashlib.blake2b(repr((FORMAT, dataset.fingerprint)).encode(errors="replace"), digest_size=16)
        return self.folder / f"{key.hexdigest()}.json"

    def _recall(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Read the summaries that are on disk already, and return their datasets."""
        recalled = []
        for dataset in datasets:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                self._summaries[dataset.fingerprint] = Summary.from_json(json.loads(self._file(dataset).read_bytes()))
                recalled.append(dataset)
        return recalled

    def _keep(self, dataset: Dataset, data: object) -> bool:
        try:
            write_whole(self._file(dataset), json.dumps(data).encode())
        except OSError:  # the dataset will be read again another time
            return False
        return True
