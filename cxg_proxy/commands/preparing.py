"""Has the stores of datasets made, each by a child of the viewer's environment, and tells what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxg_proxy import __version__
from cxg_proxy.errors import DatasetNotFound, Problem, ViewerMismatch, ViewerMissing
from cxg_proxy.gateway.library.library import Library, Scan
from cxg_proxy.gateway.workers.command import death, no_worker
from cxg_proxy.gateway.workers.process import Child, running
from cxg_proxy.gateway.workers.usage import oom_kills
from cxg_proxy.steps import Phase, Step

_MOST = 10_000_000  # files and folders to look at


@dataclass(frozen=True)
class Wanted:
    """A dataset to prepare; its name is what its user calls it."""

    file: Path
    name: str
    bytes: int


@dataclass(frozen=True)
class Outcome:
    """What became of one dataset; sizes in bytes. Without a problem, its store is there."""

    seconds: float
    made: bool = False
    cells: int = 0
    genes: int = 0
    bytes: int = 0
    problem: Problem | None = None


def found(paths: Iterable[Path]) -> list[Wanted]:
    """The files that are named, and all .h5ad files below the folders that are; each once. Raises DatasetNotFound."""
    wanted: dict[str, Wanted] = {}
    for path in paths:
        for file, name in _below(path) if path.is_dir() else [(path.absolute(), str(path))]:
            with contextlib.suppress(OSError):  # who opens it will say what is wrong
                size = file.stat().st_size
                wanted.setdefault(os.path.realpath(file), Wanted(file, name, size))
                continue
            wanted.setdefault(str(file), Wanted(file, name, 0))
    return list(wanted.values())


def _below(folder: Path) -> list[tuple[Path, str]]:
    library = Library({"": folder.absolute()})
    scan = Scan(library, _MOST)
    scan.run(time.time_ns())
    if scan.problems:
        raise DatasetNotFound(str(folder), detail=scan.problems[""])
    return [(each.file, os.path.join(folder, each.path)) for each in scan.datasets]


class Preparing:
    """Makes stores; `command` is what is run for each, without the dataset, in the folder `cwd`."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], jobs: int):
        self._command, self._cwd, self._environment = list(command), cwd, environment
        self._turns = asyncio.Semaphore(jobs)

    async def one(self, wanted: Wanted, begin: Callable[[], None], hear: Callable[[float], None]) -> Outcome:
        """Make one when it is its turn; `begin` is called then, and `hear` with the share that is done."""
        async with self._turns:
            begin()
            started = time.monotonic()
            try:
                said = await self._make(wanted, hear)
            except Problem as problem:
                problem.name_in_steps("FILE", str(wanted.file))
                return Outcome(time.monotonic() - started, problem=problem)
            cells, genes, size = (int(said.get(name, 0)) for name in ("cells", "genes", "bytes"))
            return Outcome(time.monotonic() - started, bool(said.get("made")), cells, genes, size)

    async def _make(self, wanted: Wanted, hear: Callable[[float], None]) -> dict[str, Any]:
        log: deque[str] = deque(maxlen=20)
        killed = oom_kills()
        try:
            async with running(
                [*self._command, "--", str(wanted.file)],
                cwd=self._cwd,
                environment=self._environment,
                hear=lambda line: log.append(line.decode(errors="replace").rstrip()),
            ) as child:
                heard = await _follow(child, hear)
                status = await child.wait()
        except OSError as reason:
            raise ViewerMissing(self._command[0], detail=str(reason.strerror)) from reason
        if heard.ready:
            return heard.said
        if heard.last is None and status > 0:
            raise no_worker(self._command[0], status, list(log))
        raise heard.problem or death(wanted.name, status, list(log), for_memory=oom_kills() > killed)


@dataclass
class _Heard:
    said: dict[str, Any]
    last: Step | None = None

    @property
    def ready(self) -> bool:
        return self.last is not None and self.last.phase is Phase.READY

    @property
    def problem(self) -> Problem | None:
        return None if self.last is None else self.last.problem


async def _follow(child: Child, hear: Callable[[float], None]) -> _Heard:
    heard = _Heard({})
    async for line in child.lines():
        with contextlib.suppress(ValueError, TypeError):
            data = json.loads(line)
            if isinstance(data, dict) and "made" in data:
                heard.said = data
                continue
            heard.last = Step.parse(line)
            if heard.last.version and heard.last.version != __version__:
                raise ViewerMismatch(detail=f"{heard.last.version} there, {__version__} here")
            if heard.last.phase is Phase.LOADING and heard.last.done is not None:
                hear(heard.last.done)
    return heard
