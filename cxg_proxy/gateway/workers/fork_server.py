"""Workers that are there at once: one parent has cellxgene imported already, and forks a worker for each dataset.

The parent is started when somebody may soon open a dataset, and ends when that is long ago. Nobody ever waits for it
in vain or sees a problem of it: while it is not there, or cannot fork, workers are started the ordinary way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from .command import logging_to
from .parent import NotForked, Parent
from .process import Started, fresh, running, within

IMPORT_SECONDS = 60.0  # nobody waits longer for a parent that has not imported everything
RETRY_SECONDS = 60.0  # before another parent is tried after one that was of no use
ROOM = " " * 2000  # bytes of its command line, for what `ps` shows of its workers; see `viewer/title.py`

_log = logging.getLogger(__name__)


class Preload:
    """Has a parent while it is of use, and workers from it.

    `idle_seconds` 0 is never to have one. `patience` is what a parent gets to fork a worker that speaks, in seconds.
    """

    def __init__(
        self,
        viewer: Sequence[str],
        *,
        idle_seconds: float,
        cwd: Path,
        environment: Mapping[str, str],
        log: Path,
        patience: float = 10.0,
    ) -> None:
        self._viewer, self._idle_seconds, self._patience = list(viewer), idle_seconds, patience
        self._cwd, self._environment, self._file = cwd, environment, log
        self._parent: Parent | None = None
        # The life of the parent, and those of earlier ones that have workers still.
        self._lives: dict[asyncio.Task[None], Parent] = {}
        self._touched = 0.0
        self._not_before = 0.0
        self._closed = not idle_seconds or not hasattr(os, "pidfd_open")  # which only Linux has

    def touch(self) -> None:
        """Somebody may soon open a dataset: have a parent then."""
        self._touched = time.monotonic()
        there = self._parent is not None and not self._parent.retired
        if not self._closed and not there and self._touched >= self._not_before:
            try:
                self._parent = Parent(self._patience)
            except OSError:  # too many files are open: whoever looks at the list need not know
                return
            life = asyncio.ensure_future(self._live(self._parent))
            self._lives[life] = self._parent
            life.add_done_callback(self._lives.pop)

    async def warm(self) -> None:
        """Wait until a parent can fork, or will not: it imports what else would have to be imported anew."""
        self.touch()
        if self._parent is not None:
            await within(IMPORT_SECONDS, self._parent.settled)

    async def start(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Started:
        """Fork a worker if that can be done now, else start it the ordinary way, which may raise OSError."""
        parent, length = self._parent, len(self._viewer)
        if parent is not None and parent.usable and list(command[:length]) == self._viewer:
            try:
                return await parent.fork([str(word) for word in command[length:]], cwd, environment)
            except NotForked as reason:
                self._complain(parent, str(reason))
        return await fresh(command, cwd, environment)

    async def close(self) -> None:
        """End the parent; its workers end with their blocks."""
        self._closed = True
        for parent in self._lives.values():
            parent.lose("the gateway ends")  # not by cancelling: asyncio.wait_for may lose that when news comes with it
        if self._lives:
            await asyncio.wait(list(self._lives))

    async def _live(self, parent: Parent) -> None:
        """The life of one parent, until it is of no use any more."""
        tail: deque[str] = deque(maxlen=20)
        command = [*self._viewer, "preload", "--control", str(parent.theirs.fileno()), ROOM]
        start = functools.partial(fresh, keep=[parent.theirs.fileno()])
        try:
            async with (
                logging_to(self._file, tail) as hear,
                running(command, cwd=self._cwd, environment=self._environment, hear=hear, start=start),
            ):
                parent.listen()
                await within(IMPORT_SECONDS, parent.settled)
                if not parent.usable:
                    self._complain(parent, parent.reason)
                    parent.lose(parent.reason)
                self._touched = time.monotonic()  # however long it took, it was not idle
                await self._until_needless(parent)
                parent.retire("it was not needed any more")
        except OSError as reason:  # the viewer's Python does not exist, or the system is at its limits
            self._complain(parent, str(reason))
        finally:
            parent.close()

    async def _until_needless(self, parent: Parent) -> None:
        """Wait until it is lost, or nobody has looked for long and it has no workers.

        Only it can say how they end; and the memory that it would free is in use by them anyway.
        """
        while not parent.lost:
            parent.news.clear()
            rest = 0 if parent.retired else self._touched + self._idle_seconds - time.monotonic()
            if rest > 0:
                await within(rest, parent.news)
            elif parent.busy:
                await parent.news.wait()
            else:
                return

    def _complain(self, parent: Parent, reason: str) -> None:
        """Say it to the administrator; after a parent that never was of use, try no other for a while."""
        if self._closed:
            return
        _log.warning("no preloaded cellxgene, so viewers start slower: %s; see %s", reason, self._file)
        if not parent.proven:
            self._not_before = time.monotonic() + RETRY_SECONDS
