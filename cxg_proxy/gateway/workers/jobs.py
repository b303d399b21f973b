"""The side jobs, each in a child of the viewer's environment: annotated copies and checks of tables."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cxg_proxy.annotations.alignment import Checked
from cxg_proxy.errors import Busy, NotPrepared, Problem
from cxg_proxy.files.disk import on_disk
from cxg_proxy.files.scratch import scratch
from cxg_proxy.gateway.library.dataset import Dataset

from .report import LOG_LINES, Report, reporting

MAX_COPIES = 2  # at once, because each takes the disk space of its dataset
MAX_CHECKS = 2  # at once, because each takes memory; others wait for their turn
_PREFIX = "cxg-proxy-"
_NAME = "annotated.h5ad"


class Jobs:
    """Starts the side jobs, and keeps what they write in folders that are removed with this gateway."""

    def __init__(
        self,
        command: Sequence[str],
        options: Callable[[Dataset], Mapping[str, Any]],
        folder: Path,
        *,
        cwd: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._command, self._options, self._folder = list(command), options, folder
        self._cwd, self._environment = cwd, environment
        self._copies = 0
        self._checks = asyncio.Semaphore(MAX_CHECKS)

    @property
    def busy(self) -> bool:
        """Whether an annotated copy is being made."""
        return self._copies > 0

    @contextlib.asynccontextmanager
    async def annotated(self, dataset: Dataset, labels: Path) -> AsyncIterator[IO[bytes]]:
        """Yield a copy of the dataset with its labels, as an open file that has no name and cannot be left behind.

        Raises Busy, or the Problem that prevents the copy.
        """
        if self._copies >= MAX_COPIES:
            raise Busy(dataset.label, detail="copies of other datasets are being prepared")
        self._copies += 1
        try:
            async with self.folder() as folder:
                file = folder / _NAME
                await self._annotate(dataset, labels, file)
                opened = await on_disk(lambda: _nameless(file))
                try:
                    yield opened
                finally:
                    opened.close()
        finally:
            self._copies -= 1

    async def annotate(self, dataset: Dataset, labels: Path, file: Path) -> None:
        """Create or replace `file` with such a copy, in one step; raises the Problem that prevents it."""
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        self._copies += 1
        try:
            await on_disk(lambda: file.parent.mkdir(parents=True, exist_ok=True))
            await self._annotate(dataset, labels, temporary)
            await on_disk(lambda: os.replace(temporary, file))
        except OSError as reason:
            raise NotPrepared(file.name, detail=f"{file.parent}: {reason.strerror or reason}") from reason
        finally:
            self._copies -= 1
            await on_disk(lambda: _remove(temporary))

    async def _annotate(self, dataset: Dataset, labels: Path, file: Path) -> None:
        async with self._child("annotate", dataset, labels, ["--output", str(file)]) as report:
            async for _ in report.steps():
                pass  # the page shows no progress of it
            if not report.ready:
                raise NotPrepared(_NAME, detail=await report.ending(), log=report.log)

    async def check(self, dataset: Dataset, labels: Path, table: Path, output: Path) -> Checked:
        """Return how a table of labels fits the dataset, and write the table that can be saved to `output`.

        Raises the Problem that prevents the check.
        """
        more = ["--input", str(table), "--output", str(output)]
        async with self._checks, self._child("check", dataset, labels, more) as report:
            async for _ in report.steps():
                pass  # it reports nothing before its result
            try:
                return Checked.from_json(report.result)
            except (KeyError, TypeError, ValueError) as reason:
                raise NotPrepared(dataset.label, detail=await report.ending(), log=report.log) from reason

    def _child(
        self, name: str, dataset: Dataset, labels: Path, more: Sequence[str]
    ) -> contextlib.AbstractAsyncContextManager[Report]:
        """Run the child of a job as long as the block lasts."""
        options = json.dumps(self._options(dataset))
        command = [*self._command, name, "--labels", str(labels), "--options", options, *more, "--", str(dataset.file)]
        log: deque[str] = deque(maxlen=LOG_LINES)
        return reporting(command, dataset.label, log, cwd=self._cwd, environment=self._environment)

    @contextlib.asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """Yield a private folder below the cache; making one removes those that killed gateways left behind."""
        block = contextlib.ExitStack()
        try:
            folder = await on_disk(lambda: block.enter_context(_scratch_folder(self._folder)))
        except OSError as reason:
            raise NotPrepared(detail=f"{self._folder}: {reason.strerror or reason}") from reason
        try:
            yield folder
        finally:
            with contextlib.suppress(Problem, asyncio.CancelledError):
                await on_disk(block.close)


@contextlib.contextmanager
def _scratch_folder(base: Path) -> Any:
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    with scratch(base, _PREFIX) as folder:
        yield folder


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _nameless(file: Path) -> IO[bytes]:
    opened = file.open("rb")
    file.unlink()
    return opened
