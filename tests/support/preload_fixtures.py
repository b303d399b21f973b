"""Fixtures for the fork server: a parent with almost nothing to load, its workers, and ordinary ones to compare."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cxg_proxy.gateway.workers.fork_server import ForkServer
from cxg_proxy.gateway.workers.process import Child, fresh, running
from processes import FAKE, environment

LIGHT = str(FAKE.with_name("light.py"))


class Forking:
    """The gateway's fork server, and its children."""

    def __init__(self, kind: str, folder: Path, **options: float) -> None:
        self.viewer = [sys.executable, LIGHT, kind]
        self.folder, self.log = folder, folder / "logs" / "preload.log"
        options = {"idle_seconds": 600, **options}
        self.preload = ForkServer(self.viewer, cwd=folder, environment=environment(), log=self.log, **options)

    def child(self, *words: str, ordinary: bool = False, patience: float = 3) -> AbstractAsyncContextManager[Child]:
        """Start a worker through the fork server, or an ordinary one."""
        start = fresh if ordinary else self.preload.start
        self.heard: list[bytes] = []
        surroundings: dict[str, Any] = {"cwd": self.folder, "environment": {**environment(), "AGE": "12"}}
        command = [*self.viewer, *words]
        return running(command, on_line=self.heard.append, patience=patience, start=start, **surroundings)

    @property
    def parents(self) -> list[psutil.Process]:
        """The parents that are alive; at most one of them forks."""
        found = []
        for each in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "preload" in each.cmdline() and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    def forked(self, child: Child) -> bool:
        """Whether the process is the child of a living parent, and not of this process."""
        return psutil.Process(child.pid).ppid() in [each.pid for each in self.parents]


Make = Callable[..., Forking]


@pytest.fixture(name="forking")
async def a_forking(short: Path) -> AsyncIterator[Make]:
    """A function that makes a fork server, which ends with the test."""
    made: list[Forking] = []

    def make(kind: str = "plain", **options: float) -> Forking:
        made.append(Forking(kind, short, **options))
        return made[-1]

    yield make
    await asyncio.gather(*(each.preload.close() for each in made))


async def line(child: Child) -> bytes:
    """Return the next line that the child writes."""
    return await anext(child.lines())


async def description(child: Child) -> dict[str, Any]:
    """Return the description that `light.py … describe` writes of itself."""
    said: dict[str, Any] = json.loads(await line(child))
    return said
