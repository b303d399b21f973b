"""Running viewers: one instance per dataset, opened once for any number of visits, closed when nobody looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import Stopped, TooManyInstances
from .instance import Fetch, Instance, Limits
from .library import Dataset
from .progress import Phase
from .visits import Visits
from .worker import Command, Place


class Instances:
    """All instances of one gateway."""

    def __init__(
        self, command: Command, place: Place, limits: Limits, visits: Visits, fetch: Fetch | None = None
    ) -> None:
        self._fetch = fetch
        self._command, self._place, self._limits, self._visits = command, place, limits, visits
        self._all: dict[Path, Instance] = {}
        self._closing = False

    def __iter__(self) -> Iterator[Instance]:
        return iter(sorted(self._all.values(), key=lambda each: each.since))

    def find(self, identifier: str) -> Instance | None:
        """The instance of this id."""
        return next((each for each in self._all.values() if each.id == identifier), None)

    def of(self, real: Path) -> Instance | None:
        """The instance on this file: running, or over and not yet replaced."""
        return self._all.get(real)

    def running(self) -> list[Instance]:
        """Those whose life has not ended."""
        return [each for each in self._all.values() if not each.over]

    async def open(self, dataset: Dataset, *, again: bool = False) -> Instance:
        """Join the instance on this dataset or start one; raises TooManyInstances.

        A failed instance is returned as it is unless `again`: nothing restarts by itself. One whose file was
        replaced meanwhile gives way to a new one.
        """
        there = self._all.get(dataset.real)
        while there is not None and not there.over and (there.closing or there.of_another(dataset)):
            await there.close()
            there = self._all.get(dataset.real)  # somebody else who waited may have been first
        failed = there is not None and there.phase is Phase.FAILED and not again and not there.of_another(dataset)
        if there is not None and (failed or not there.over):
            there.touch()
            return there
        if self._closing:
            raise Stopped(dataset.label)
        instance = Instance(dataset, self._command, self._place, self._limits, self._visits, fetch=self._fetch)
        instance.start(after=self._make_room())
        self._all[dataset.real] = instance
        return instance

    def _make_room(self) -> asyncio.Future[None] | None:
        """Close the longest unused instance if all places are taken; raises TooManyInstances if each is in use."""
        running = self.running()
        if len(running) < self._limits.most:
            return None
        spare = [each for each in running if not each.in_use()]
        if not spare:
            raise TooManyInstances(detail=f"{self._limits.most}")
        return asyncio.ensure_future(min(spare, key=lambda each: each.used).close())

    async def close_idle(self) -> None:
        """Close what nobody has used for `idle_seconds`."""
        now = time.time()
        idle = [
            each
            for each in self.running()
            if each.phase is Phase.READY and not each.exchanges and now - each.used > self._limits.idle_seconds
        ]
        if self._limits.idle_seconds and idle:
            await asyncio.gather(*(each.close() for each in idle))

    async def close(self) -> None:
        """End all of them together."""
        self._closing = True
        await asyncio.gather(*(each.close() for each in self.running()))
