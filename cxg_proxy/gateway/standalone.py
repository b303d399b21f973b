"""The standalone dataset: opened at once, checked if requested, and copied with its labels after saves."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from tornado.httputil import HTTPHeaders

from cxg_proxy import annotations
from cxg_proxy.errors import NoAnswer, Problem
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library import library
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.workers.exchange import Exchange, WorkerGone
from cxg_proxy.gateway.workers.instance import Instance
from cxg_proxy.steps import Phase

from .services import Services

LOOK_SECONDS = 1.0  # how often to check whether labels were saved
QUIET_SECONDS = 5.0  # the wait after a save, because more saves usually follow
LATEST_SECONDS = 60.0  # the longest wait after a save, even if more follow all the time
AGAIN_SECONDS = 15.0  # the wait after a disk that does not respond: each call waits in a thread of its own
REST_TIMES = 4.0  # the rest between two copies, as a multiple of the time that the last one took

State = tuple[object, object]
NOTHING: State = (None, None)  # no labels and no gene sets are saved


class Standalone:
    """The only dataset of a gateway, and the copy of it with its labels, if one was requested."""

    def __init__(self, services: Services, annotated: str, log: logging.Logger) -> None:
        self._services, self._log = services, log
        self._annotated = Path(annotated).expanduser().absolute() if annotated else None
        self._dataset: Dataset | None = None
        self._not_found: Problem | None = None  # why the dataset was not found
        self._shown = False  # whether the dataset has been shown once
        self._copied: State | None = None  # the state of the labels that are in the copy
        self._tried: State | None = None  # the state of the labels at the last attempt to copy them
        self._copying = asyncio.Lock()

    async def live(self) -> None:
        """Open the dataset, then keep its copy current until cancelled; the reason why it cannot be shown is logged."""
        try:
            await (await self._open()).ready()
        except Problem as problem:
            self._log.error("%s", problem.sentence)
            self._not_found = problem if self._dataset is None else None
        await asyncio.gather(self._until_shown(), self._keep_fresh())

    @property
    def problem(self) -> Problem | None:
        """Why the dataset could never be shown, else None; a viewer that dies later loses nothing that was saved."""
        instance = self._instance()
        return None if self._shown else instance.problem if instance else self._not_found

    async def finish(self) -> None:
        """Update the copy with what was saved last, and log what has become of the viewer."""
        if self.problem is not None:
            return
        instance = self._instance()
        if instance is not None and instance.problem is not None:
            self._log.error("%s", instance.problem.sentence)
        if self._annotated is not None and self._dataset is not None:
            try:
                await self._renew(self._log.error)
            except Problem as problem:
                self._log.error("%s", problem.sentence)

    async def check(self) -> str:
        """Open the dataset, query its viewer, make the copy, and return a sentence about it; raises the Problem."""
        instance = await self._open()
        await instance.ready()
        shown = json.loads(await _get(instance, "/api/v0.2/schema"))["schema"]
        if self._annotated is not None:
            await self._renew(_raised)
        embeddings = ", ".join(each["name"] for each in shown["layout"]["obs"])
        size = f"{shown['dataframe']['nObs']} cells and {shown['dataframe']['nVar']} genes"
        return f"{instance.dataset.label}: the viewer shows {size}; embeddings: {embeddings}."

    async def _open(self) -> Instance:
        self._dataset = await on_disk(self._find)
        return await self._services.instances.open(self._dataset)

    def _find(self) -> Dataset:
        return self._services.library.find(library.only_dataset(self._services.library.roots))

    def _instance(self) -> Instance | None:
        return self._services.instances.of(self._dataset.real) if self._dataset else None

    async def _until_shown(self) -> None:
        """Wait until the dataset has been shown once: a person may remove the cause of a failure and try again."""
        while not self._shown:
            if self._dataset is None:
                with contextlib.suppress(Problem):
                    self._dataset = await on_disk(self._find)
                    self._not_found = None
            instance = self._instance()
            self._shown = instance is not None and instance.phase is Phase.READY
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep_fresh(self) -> None:
        """Renew the copy after saves."""
        earliest = 0.0
        while self._annotated is not None:
            try:
                await self._until_saved(earliest)
                begin = time.monotonic()
                await self._renew(self._log.error)
                earliest = time.monotonic() + REST_TIMES * (time.monotonic() - begin)
            except Problem as problem:
                self._log.error("%s", problem.sentence)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _until_saved(self, earliest: float) -> None:
        """Wait for saved labels that are not in the copy, and until no more are saved for a while."""
        seen, begun, changed, now = self._tried or NOTHING, 0.0, 0.0, 0.0
        while not begun or now < max(earliest, min(changed + QUIET_SECONDS, begun + LATEST_SECONDS)):
            await asyncio.sleep(LOOK_SECONDS)
            found, now = await on_disk(self._state), time.monotonic()
            if found != seen:
                seen, begun, changed = found, begun or now, now
            if found in (self._tried, NOTHING):
                begun = 0.0

    def _state(self) -> State:
        if self._dataset is None:
            return NOTHING
        where = self._services.labels(self._dataset)
        return annotations.version(where, annotations.LABELS), annotations.version(where, annotations.GENE_SETS)

    async def _renew(self, tell: Callable[..., object]) -> None:
        assert self._dataset is not None
        assert self._annotated is not None
        async with self._copying:
            state = await on_disk(self._state)
            if state == self._copied:
                return
            self._tried = state  # a failed copy is tried again at the next save, and at the end
            try:
                await self._services.jobs.annotate(self._dataset, self._services.labels(self._dataset), self._annotated)
                self._copied = state
            except Problem as problem:
                tell("%s", problem)


def _raised(_: str, problem: Problem) -> None:
    raise problem


async def _get(instance: Instance, target: str) -> bytes:
    """Return a worker's reply; raises NoAnswer, or the Problem that ended the worker."""
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
