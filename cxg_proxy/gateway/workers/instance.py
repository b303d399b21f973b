"""An instance: one worker on one dataset, from the request to open it to its end.

Its life is one task (`_live`), which passes through these phases: queued, (downloading,) starting, loading, ready,
closing, closed; or failed, with the reason. Nothing restarts by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cxg_proxy.errors import ChangedMeanwhile, Died, Problem, StartTimeout, Stopped
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.library.visits import Visit, Visits
from cxg_proxy.steps import LEGAL, OVER, Phase

from .command import WorkerCommand, WorkerEnvironment, command_and_fingerprint
from .exchange import Connections
from .log import logging_to
from .process import within
from .report import LOG_LINES, Report, reporting

ROOM_SECONDS = 15.0  # longer than it takes to end a worker

# Downloads a remote dataset and returns it; the function argument receives the share downloaded so far.
Fetch = Callable[[Dataset, Callable[[float | None], None]], Coroutine[None, None, Dataset]]


class Instance:
    """One worker on one dataset, from the request to open it to its end."""

    def __init__(
        self,
        dataset: Dataset,
        command: WorkerCommand,
        surroundings: WorkerEnvironment,
        limits: Limits,
        visits: Visits,
        *,
        fetch: Fetch | None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.dataset = dataset
        self.phase = Phase.QUEUED
        self.done: float | None = None  # the share of the phase that is over; when it is ready, that of gene expression
        self.note = ""  # what a person should read although nothing went wrong
        self.problem: Problem | None = None
        self.since = self.used = time.time()
        self.exchanges = 0  # the number of requests in progress
        self.state = ""  # what the tags of its replies are made from
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.socket = surroundings.sockets / f"{self.id}.sock"
        self.connections = Connections(self.socket)
        self.pid: int | None = None
        visit = visits.get(dataset.real)
        self.expected = visit.seconds if visit and dataset.exists else None
        self._command, self._surroundings, self._limits, self._visits = command, surroundings, limits, visits
        self._fetch = fetch
        self._fetching = 0.0  # seconds of download, which the next opening will not need
        self._changed = asyncio.Event()
        self._close_asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- its state --------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the instance has ended."""
        return self.phase in OVER

    @property
    def closing(self) -> bool:
        """Whether it has been asked to end, or is ending."""
        return self._close_asked.is_set()

    def of_another(self, dataset: Dataset) -> bool:
        """Whether the file has been replaced since this instance read it."""
        # While it is being downloaded, the instance itself replaces the file.
        return self.dataset.fingerprint != dataset.fingerprint and self.phase is not Phase.DOWNLOADING

    @property
    def elapsed(self) -> float:
        """Seconds since the instance was requested."""
        return time.time() - self.since

    def touch(self) -> None:
        """Note that the instance is being used now."""
        self.used = time.time()

    def in_use(self) -> bool:
        """Whether it is at work or was used recently, so that it must not be closed to make room for another."""
        return not self.over and (self.at_work() or time.time() - self.used < self._limits.in_use_seconds)

    def at_work(self) -> bool:
        """Whether it serves a request, opens, or prepares gene expression (which the next visit would begin again)."""
        return self.exchanges > 0 or self.phase is not Phase.READY or self.done is not None

    @property
    def next_change(self) -> asyncio.Event:
        """The event that is set at the next change from now on."""
        return self._changed

    async def change(self, timeout: float) -> None:
        """Wait for the next change, at most `timeout` seconds."""
        await within(timeout, self.next_change)

    async def ready(self) -> None:
        """Wait until the instance is ready; raises the Problem that prevents it."""
        while self.phase is not Phase.READY:
            if self.problem is not None:
                raise self.problem
            if self.phase in (Phase.CLOSING, Phase.CLOSED):
                raise Stopped(self.dataset.label)
            await self.change(60)

    # --- its life ---------------------------------------------------------------------------------------------

    def start(self, after: Awaitable[object] | None, over: Callable[[Instance], None]) -> None:
        """Start the instance once `after` (the end of the instances that make room) is over.

        `over` is called when this instance has ended.
        """
        self._task = asyncio.ensure_future(self._live(after))
        self._task.add_done_callback(lambda _: over(self))

    def ask_to_close(self) -> None:
        """Request the end of the instance, without waiting for it."""
        self._close_asked.set()

    async def close(self) -> None:
        """End the instance and wait until nothing of it is left; the labels are on disk already."""
        self.ask_to_close()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _live(self, after: Awaitable[object] | None) -> None:
        """Run the whole life of one worker; the phase changes only in this task."""
        try:
            if after is not None:
                await self._until_there_is_room(after)
            if self.dataset.remote and not self._close_asked.is_set():
                await self._until_here()
            if self._close_asked.is_set():
                self._enter(Phase.CLOSED)
                return
            self._enter(Phase.STARTING)
            # In a thread, because it accesses the folder of labels, on a disk that may hang.
            command, under = await on_disk(lambda: command_and_fingerprint(self._command, self.dataset, self.socket))
            warming = asyncio.ensure_future(self._surroundings.starter.warm())
            await self._first(warming, timeout=None)
            warming.cancel()
            async with (
                logging_to(self._surroundings.log_of(self.dataset), self.log) as log_line,
                reporting(
                    command,
                    self.dataset.label,
                    self.log,
                    cwd=self._surroundings.sockets,
                    environment=self._surroundings.environment,
                    on_line=log_line,
                    patience=self._limits.patience,
                    start=self._surroundings.starter.start,
                ) as report,
            ):
                self.pid = report.child.pid
                await self._until_ready(report, under)
                await self._until_over(report)
                self._enter(Phase.CLOSING)
            self._enter(Phase.CLOSED)
        except Problem as problem:
            self._fail(problem)
        except Exception as reason:  # the outermost level of the task, where every error is shown and none is swallowed
            logging.getLogger(__name__).exception("instance of %s", self.dataset.name)
            self._fail(Died(self.dataset.label, detail=repr(reason)))
        finally:
            self.pid = None
            self.connections.close()
            with contextlib.suppress(OSError):
                self.socket.unlink()

    async def _until_there_is_room(self, after: Awaitable[object]) -> None:
        if not await self._first(asyncio.ensure_future(after), timeout=ROOM_SECONDS):
            raise StartTimeout(self.dataset.label, detail="the viewer that was to make room does not end")

    async def _until_here(self) -> None:
        """Download what is missing; a request to close interrupts that, and what has arrived is kept."""
        assert self._fetch is not None
        self._enter(Phase.DOWNLOADING)
        before = self.elapsed
        fetching = asyncio.ensure_future(self._fetch(self.dataset, self._note_share))
        try:
            await self._first(fetching, timeout=None)
            if fetching.done():
                self.dataset = fetching.result()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
        self._fetching = self.elapsed - before

    def _note_share(self, share: float | None) -> None:
        before, self.done = self.done, None if share is None else round(share, 2)
        if self.done != before:  # each change is sent to every open page
            self._notify()

    async def _until_ready(self, report: Report, under: str) -> None:
        listening = asyncio.ensure_future(self._listen(report, under))
        try:
            if not await self._first(listening, timeout=self._limits.start_timeout or None):
                raise StartTimeout(self.dataset.label, detail=f"{self._limits.start_timeout:.0f} s")
            if listening.done():
                listening.result()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, report: Report, under: str) -> None:
        """Follow the worker's steps until it is ready; raises the Problem that it reports or that ended it."""
        async for step in report.steps():
            if step.phase is Phase.READY:
                await self._refuse_changed()
                self.touch()  # however long it took to open, it has just become usable
                seconds = round(self.elapsed - self._fetching, 2)
                self.state = step.state
                self._visits.add(self.dataset.real, Visit(time.time(), seconds, step.state, under))
            if step.phase is not self.phase:
                self._enter(step.phase)
            self.done, self.note = step.done, step.note
            self._notify()
            if self.phase is Phase.READY:
                return
        raise await report.death()

    async def _follow(self, report: Report) -> None:
        """Follow the work that a ready worker still has to do."""
        async for step in report.steps():
            if step.phase is self.phase is Phase.READY:
                self.done, self.note = step.done, step.note
                self._notify()

    async def _refuse_changed(self) -> None:
        """Raise ChangedMeanwhile unless the file is still the one that this instance claims to show."""
        try:
            status = await on_disk(lambda: os.stat(self.dataset.real))
        except OSError as reason:
            raise ChangedMeanwhile(self.dataset.label, detail=reason.strerror or str(reason)) from reason
        if (status.st_size, status.st_mtime_ns, status.st_ino) != self.dataset.fingerprint[1:]:
            raise ChangedMeanwhile(self.dataset.label)

    async def _until_over(self, report: Report) -> None:
        """Wait for a request to close; raises the Problem that ended the worker if it ends before."""
        if self._close_asked.is_set():
            return
        dying, following = asyncio.ensure_future(report.child.wait()), asyncio.ensure_future(self._follow(report))
        try:
            await self._first(dying, timeout=None)
            if dying.done() and not self._close_asked.is_set():
                raise await report.death()
        finally:
            dying.cancel()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _first(self, other: asyncio.Future[Any], timeout: float | None) -> bool:
        """Wait for `other` or a request to close; return False if neither came within `timeout` seconds."""
        close_request = asyncio.ensure_future(self._close_asked.wait())
        try:
            done, _ = await asyncio.wait({other, close_request}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
        finally:
            close_request.cancel()

    def _enter(self, phase: Phase) -> None:
        if phase not in LEGAL[self.phase]:
            raise RuntimeError(f"{self.dataset.name}: no way from {self.phase.value} to {phase.value}")
        self.phase, self.done = phase, None
        self._notify()

    def _fail(self, problem: Problem) -> None:
        if not problem.log:
            problem.log = tuple(self.log)
        problem.name_in_steps("FILE", str(self.dataset.file))
        self.problem = problem
        self._enter(Phase.FAILED if self.phase is not Phase.CLOSING else Phase.CLOSED)

    def _notify(self) -> None:
        """Wake everything that waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True)
class Limits:
    """The limits of instances; times are in seconds, and 0 means never."""

    most: int = 4
    idle_seconds: float = 1800
    start_timeout: float = 600
    patience: float = 3
    in_use_seconds: float = 120  # an instance used within this time is not closed to make room for another
