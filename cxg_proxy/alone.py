"""One dataset that is shown alone: opened at once, checked if asked for, and copied with its labels after saves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from tornado.httputil import HTTPHeaders

from . import annotations as kept
from . import roots
from .disk import on_disk
from .errors import NoAnswer, Problem
from .forward import Exchange, WorkerGone
from .handlers import Desk
from .instance import Instance
from .library import Dataset

LOOK_SECONDS = 1.0  # so often it is looked whether labels were saved
QUIET_SECONDS = 5.0  # after a save, for more saves usually follow
LATEST_SECONDS = 60.0  # after a save, even if more follow all the time
REST_TIMES = 4.0  # between two copies, so many times as long as the last one took

State = tuple[object, object]
NOTHING: State = (None, None)  # is saved


class Alone:
    """The only dataset of a gateway, and the copy of it with its labels, where one was asked for."""

    def __init__(self, desk: Desk, annotated: str, log: logging.Logger) -> None:
        self._desk, self._log = desk, log
        self._annotated = Path(annotated).expanduser().absolute() if annotated else None
        self._dataset: Dataset | None = None
        self._copied: State | None = None  # of the labels that are in the copy
        self._copying = asyncio.Lock()

    async def live(self) -> None:
        """Open the dataset, then keep its copy fresh until cancelled; why it cannot be shown is logged, too."""
        try:
            await (await self._open()).ready()
        except Problem as problem:
            self._log.error("%s", problem.sentence)
        earliest = 0.0
        while self._annotated is not None:
            await self._until_saved(earliest)
            begin = time.monotonic()
            await self._renew(self._log.error)
            earliest = time.monotonic() + REST_TIMES * (time.monotonic() - begin)

    @property
    def problem(self) -> Problem | None:
        """Why it is not shown now, if it could not be opened or its viewer has died."""
        instance = self._desk.instances.of(self._dataset.real) if self._dataset else None
        return instance.problem if instance else None

    async def finish(self) -> None:
        """Have in the copy what was saved last."""
        if self._annotated is not None and self.problem is None:
            await self._renew(self._log.error)

    async def check(self) -> str:
        """Open the dataset, ask its viewer what it shows, make the copy; a sentence on it. Raises the Problem."""
        instance = await self._open()
        await instance.ready()
        shown = json.loads(await _asked(instance, "/api/v0.2/schema"))["schema"]
        if self._annotated is not None:
            await self._renew(_raised)
        embeddings = ", ".join(each["name"] for each in shown["layout"]["obs"])
        size = f"{shown['dataframe']['nObs']} cells and {shown['dataframe']['nVar']} genes"
        return f"{instance.dataset.label}: the viewer shows {size}; embeddings: {embeddings}."

    async def _open(self) -> Instance:
        address = await on_disk(lambda: roots.only(self._desk.library.roots))
        self._dataset = await on_disk(lambda: self._desk.library.find(address))
        return await self._desk.instances.open(self._dataset)

    async def _until_saved(self, earliest: float) -> None:
        """Wait for labels that are not in the copy, and until no more are saved for a while."""
        seen, begun, changed, now = self._copied or NOTHING, 0.0, 0.0, 0.0
        while not begun or now < max(earliest, min(changed + QUIET_SECONDS, begun + LATEST_SECONDS)):
            await asyncio.sleep(LOOK_SECONDS)
            found, now = await on_disk(self._state), time.monotonic()
            if found != seen:
                seen, begun, changed = found, begun or now, now
            if found in (self._copied, NOTHING):
                begun = 0.0

    def _state(self) -> State:
        assert self._dataset is not None
        where = self._desk.labels(self._dataset)
        return kept.version(where, kept.LABELS), kept.version(where, kept.GENE_SETS)

    async def _renew(self, tell: Callable[..., object]) -> None:
        assert self._dataset is not None
        assert self._annotated is not None
        async with self._copying:
            state = await on_disk(self._state)
            if state == self._copied:
                return
            try:
                await self._desk.children.annotate(self._dataset, self._desk.labels(self._dataset), self._annotated)
            except Problem as problem:
                tell("%s", problem)
            self._copied = state  # what failed is tried again at the next save


def _raised(_: str, problem: Problem) -> None:
    raise problem


async def _asked(instance: Instance, target: str) -> bytes:
    """A worker's reply; raises NoAnswer, or why the worker is gone."""
    status, parts = 0, []

    async def head(code: int, _: str, __: HTTPHeaders) -> None:
        nonlocal status
        status = code

    async def body(chunk: bytes) -> None:
        parts.append(chunk)

    exchange = Exchange(instance.connections, head, body)
    try:
        await exchange.start("GET", target, HTTPHeaders({"Host": "localhost"}))
        await exchange.receive()
    except WorkerGone as reason:
        raise instance.problem or NoAnswer(instance.dataset.label) from reason
    if status != 200:
        raise NoAnswer(instance.dataset.label, detail=f"{target} has status {status}")
    return b"".join(parts)
