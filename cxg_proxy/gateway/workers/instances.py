"""The running instances: one per dataset, opened once for any number of visits and closed when idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

from cxg_proxy.errors import Stopped, TooManyInstances
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.library.visits import Visits
from cxg_proxy.steps import Phase

from .command import WorkerCommand, WorkerEnvironment, command_and_fingerprint
from .instance import Fetch, Instance, Limits


class Instances:
    """All instances of one gateway."""

    def __init__(
        self,
        command: WorkerCommand,
        surroundings: WorkerEnvironment,
        limits: Limits,
        visits: Visits,
        fetch: Fetch | None = None,
    ) -> None:
        self._fetch = fetch
        self._command, self._surroundings, self._limits, self._visits = command, surroundings, limits, visits
        self._all: dict[Path, Instance] = {}
        self._at: dict[str, Instance] = {}
        self._closing = False

    def __iter__(self) -> Iterator[Instance]:
        return iter(sorted(self._all.values(), key=lambda each: each.since))

    def find(self, identifier: str) -> Instance | None:
        """Return the instance of this id, None if there is none."""
        return next((each for each in self._all.values() if each.id == identifier), None)

    def of(self, real: Path) -> Instance | None:
        """Return the instance on this file, running or failed, None if there is none."""
        return self._all.get(real)

    def at(self, address: str) -> Instance | None:
        """Return the instance last opened at this address; a symlink there may lead to another file by now."""
        instance = self._at.get(address)
        return None if instance is None or instance.phase is Phase.CLOSED else instance

    def addressed(self, path: str) -> str | None:
        """Return the address of an instance that a path begins with, None if there is none."""
        return next((address for address in self._at if path.startswith(f"{address}/") and self.at(address)), None)

    def ready_in(self, folder: str) -> Instance | None:
        """Return a ready instance whose address lies directly in this folder, None if there is none."""
        inside = [each for address, each in self._at.items() if address.rpartition("/")[0] == folder]
        return next((each for each in inside if each.phase is Phase.READY), None)

    def running(self) -> list[Instance]:
        """Return the instances that have not ended."""
        return [each for each in self._all.values() if not each.over]

    def state_of(self, dataset: Dataset) -> str:
        """Return the state that the tags of a dataset's replies are made from, or "" if it is unknown.

        It is known if the last worker was started for exactly what exists now. Accesses the disk.
        """
        visit = self._visits.get(dataset.real)
        if visit is None or not visit.state:
            return ""
        _, now = command_and_fingerprint(self._command, dataset, Path("-"))
        return visit.state if visit.circumstances == now else ""

    async def open(self, dataset: Dataset, *, again: bool = False) -> Instance:
        """Return the instance on this dataset, started if necessary; raises TooManyInstances.

        A failed instance is returned as it is unless `again`, because nothing restarts by itself. An instance whose
        file was replaced meanwhile gives way to a new one.
        """
        existing = self._all.get(dataset.real)
        while existing is not None and not existing.over and (existing.closing or existing.of_another(dataset)):
            await existing.close()
            existing = self._all.get(dataset.real)  # another request that waited may have opened it first
        failed = (
            existing is not None and existing.phase is Phase.FAILED and not again and not existing.of_another(dataset)
        )
        if existing is not None and (failed or not existing.over):
            existing.touch()
            self._move(dataset.address, existing)
            return existing
        if self._closing:
            raise Stopped(dataset.label)
        instance = Instance(dataset, self._command, self._surroundings, self._limits, self._visits, fetch=self._fetch)
        instance.start(after=self._make_room(), over=self._forget)
        self._all[dataset.real] = instance
        self._move(dataset.address, instance)
        return instance

    def _move(self, address: str, instance: Instance) -> None:
        """Let an address lead to an instance; the previous one is closed unless another address leads to it."""
        before = self._at.get(address)
        self._at[address] = instance
        if before is not None and before is not instance and before not in self._at.values():
            before.ask_to_close()

    def _forget(self, instance: Instance) -> None:
        """Remove a closed instance; a failed one stays, with its reason, until it is tried again."""
        if instance.phase is Phase.CLOSED:
            self._at = {address: each for address, each in self._at.items() if each is not instance}
            self._all = {real: each for real, each in self._all.items() if each is not instance}

    def _make_room(self) -> Awaitable[object] | None:
        """Ask the longest unused instance to end if all places are taken; raises TooManyInstances if all are in use.

        Return what a new instance must wait for, None if there is room already.
        """
        running = self.running()
        staying = [each for each in running if not each.closing]
        if len(staying) >= self._limits.most:
            spare = [each for each in staying if not each.in_use()]
            if not spare:
                raise TooManyInstances(detail=f"{self._limits.most}")
            min(spare, key=lambda each: each.used).ask_to_close()
        ending = [each for each in running if each.closing]
        return None if len(running) < self._limits.most else asyncio.gather(*(each.close() for each in ending))

    async def close_idle(self) -> None:
        """Close the instances unused for `idle_seconds`, unless they still prepare what the next visit needs."""
        now = time.time()
        idle = [each for each in self.running() if not each.at_work() and now - each.used > self._limits.idle_seconds]
        if self._limits.idle_seconds and idle:
            await asyncio.gather(*(each.close() for each in idle))

    async def close(self) -> None:
        """End all instances together."""
        self._closing = True
        await asyncio.gather(*(each.close() for each in self.running()))
