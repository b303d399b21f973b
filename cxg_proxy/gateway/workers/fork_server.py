"""The fork server: a parent process that has imported cellxgene already, and forks a worker for each dataset.

With it, workers start at once. The parent is started when somebody may soon open a dataset, and ends when that was long
ago. Its failures never reach a user: while it is missing, or cannot fork, workers are started the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import json
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxg_proxy import __version__

from .forked import Forked, StdioPipes
from .log import logging_to
from .process import Started, fresh, running, within
from .report import LOG_LINES

IMPORT_SECONDS = 60.0  # the longest wait for a parent that has not imported everything yet
RETRY_SECONDS = 60.0  # before another parent is tried after one that never forked a worker
ROOM = " " * 2000  # bytes of the parent's command line, for what `ps` shows of its workers; see `viewer/fork_server.py`

_log = logging.getLogger(__name__)

_MAX_PACKET_BYTES = 1 << 16  # the most that is read of one packet


class ForkServer:
    """Keeps a parent while that is of use, and starts workers from it.

    With `idle_seconds` 0 there is never a parent. `patience` is how many seconds a parent has to fork a worker that
    writes its first output.
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
        # The tasks of the current parent, and of earlier ones that still have workers.
        self._lives: dict[asyncio.Task[None], Parent] = {}
        self._touched = 0.0
        self._not_before = 0.0
        self._closed = not idle_seconds or not hasattr(os, "pidfd_open")  # pidfd_open exists only on Linux

    def touch(self) -> None:
        """Start a parent unless there is one, because somebody may soon open a dataset."""
        self._touched = time.monotonic()
        has_parent = self._parent is not None and not self._parent.retired
        if not self._closed and not has_parent and self._touched >= self._not_before:
            try:
                self._parent = Parent(self._patience)
            except OSError:  # too many files are open, which does not matter to a user who looks at the list
                return
            life = asyncio.ensure_future(self._live(self._parent))
            self._lives[life] = self._parent
            life.add_done_callback(self._lives.pop)

    async def warm(self) -> None:
        """Wait until a parent can fork, or never will: without it, the worker would have to import everything again."""
        self.touch()
        if self._parent is not None:
            await within(IMPORT_SECONDS, self._parent.settled)

    async def start(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Started:
        """Fork a worker if that is possible now, else start it the ordinary way, which may raise OSError."""
        parent, length = self._parent, len(self._viewer)
        if parent is not None and parent.usable and list(command[:length]) == self._viewer:
            try:
                return await parent.fork([str(word) for word in command[length:]], cwd, environment)
            except NotForked as reason:
                self._complain(parent, str(reason))
        return await fresh(command, cwd, environment)

    async def close(self) -> None:
        """End the parent; its workers end with their own blocks."""
        self._closed = True
        for parent in self._lives.values():
            parent.lose("the gateway ends")  # not cancelled: asyncio.wait_for may lose a cancellation when news arrives
        if self._lives:
            await asyncio.wait(list(self._lives))

    async def _live(self, parent: Parent) -> None:
        """Run one parent until it is of no use any more."""
        tail: deque[str] = deque(maxlen=LOG_LINES)
        command = [*self._viewer, "preload", "--control", str(parent.child_socket.fileno()), ROOM]
        start = functools.partial(fresh, keep=[parent.child_socket.fileno()])
        try:
            async with (
                logging_to(self._file, tail) as log_line,
                running(command, cwd=self._cwd, environment=self._environment, on_line=log_line, start=start),
            ):
                parent.listen()
                await within(IMPORT_SECONDS, parent.settled)
                if not parent.usable:
                    self._complain(parent, parent.reason)
                    parent.lose(parent.reason)
                self._touched = time.monotonic()  # however long the import took, the parent was not idle
                await self._until_needless(parent)
                parent.retire("it was not needed any more")
        except OSError as reason:  # the viewer's Python does not exist, or the system is at its limits
            self._complain(parent, str(reason))
        finally:
            parent.close()

    async def _until_needless(self, parent: Parent) -> None:
        """Wait until the parent is lost, or has been idle for long and has no workers.

        A parent with workers stays, because only it can report how they end, and the memory that its end would free is
        in use by them anyway.
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
        """Log the reason for the administrator; after a parent that never forked a worker, try no other for a while."""
        if self._closed:
            return
        _log.warning("no preloaded cellxgene, so viewers start slower: %s; see %s", reason, self._file)
        if not parent.proven:
            self._not_before = time.monotonic() + RETRY_SECONDS


class NotForked(Exception):
    """The parent could not fork a worker; the text gives the reason."""


class Parent:
    """One parent, from the creation of its sockets on.

    `patience` is how many seconds it has to reply, and a worker to write its first output.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._socket, self.child_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Forked]] = {}
        self.workers: dict[int, Forked] = {}
        self.settled = asyncio.Event()  # set when it can fork, or never will
        self.news = asyncio.Event()  # set when it is lost, not used any more, or has no workers any more
        self.reason = "it does not get ready"  # why it cannot fork, if it cannot
        self.retired = False  # it must not fork any more
        self.lost = False  # not even its reports on how its workers end are read
        self.proven = False  # it has forked a worker that has written something

    @property
    def usable(self) -> bool:
        """Whether it can fork now."""
        return self.settled.is_set() and not self.retired

    @property
    def busy(self) -> bool:
        """Whether it has workers, or has been asked for one."""
        return bool(self.workers or self._pending)

    def listen(self) -> None:
        """Read its messages from now on; it has its end of the socket already."""
        self.child_socket.close()
        asyncio.get_running_loop().add_reader(self._socket, self._read_packet)

    def retire(self, reason: str) -> None:
        """Let it fork no more workers, and note the reason."""
        if not self.retired:
            self.retired, self.reason = True, reason
        self.settled.set()
        self.news.set()

    def lose(self, reason: str) -> None:
        """Give it up; its workers go on."""
        self.lost = True
        self.retire(reason)

    def close(self) -> None:
        """Close the socket, which ends the parent."""
        if self._socket.fileno() < 0:
            return
        self.lose("it has ended")
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self.child_socket.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(NotForked(self.reason))
        for worker in self.workers.values():
            worker.note_parent_lost()

    async def fork(self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Forked:
        """Return a new worker that has written its first output; raises NotForked."""
        number = next(self._numbers)
        order = {"number": number, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        ends = StdioPipes()
        try:
            worker = await self._request_worker(number, json.dumps(order).encode(), ends)
            await self._greeted(worker, ends)
        except OSError as reason:
            raise NotForked(str(reason)) from reason
        finally:
            ends.close()
        return worker

    async def _request_worker(self, number: int, order: bytes, ends: StdioPipes) -> Forked:
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._socket, [order], ends.child_ends)
            ends.close_child_ends()
            return await asyncio.wait_for(future, self._patience)
        except asyncio.TimeoutError:
            self.lose("it does not answer")
            raise NotForked(self.reason) from None
        except OSError as reason:
            if reason.errno != errno.EMSGSIZE:  # an order too long for a packet says nothing about the parent
                self.lose(str(reason))
            raise
        finally:
            del self._pending[number]
            self.news.set()

    async def _greeted(self, worker: Forked, ends: StdioPipes) -> None:
        """Connect to a worker and wait for its first output; if there is none, kill the worker."""
        greeted = False
        try:
            await worker.connect(ends)
            with contextlib.suppress(asyncio.TimeoutError):
                greeted = await asyncio.wait_for(worker.first_word(), self._patience)
        finally:
            if not greeted:
                worker.signal_group(signal.SIGKILL)
                worker.free()
        if not greeted:
            self.retire("a worker of it said nothing")
            raise NotForked(self.reason)
        self.proven = True

    # --- what it reports --------------------------------------------------------------------------------------

    def _read_packet(self) -> None:
        try:
            packet, descriptors, *_ = socket.recv_fds(self._socket, _MAX_PACKET_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if packet:
            self._handle(json.loads(packet), descriptors)
        else:
            self.close()

    def _handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        number = message.get("number", 0)
        future = self._pending.get(number)
        if "version" in message:
            self._compare(message["version"])
        elif "ready" in message:
            self.settled.set()
        elif "pid" in message and descriptors:
            self._take(number, Forked(message["pid"], descriptors[0], lambda: self._free(number)), future)
        elif "status" in message:
            if number in self.workers:
                self.workers[number].note_status(message["status"])
        else:  # or this process has too many files open to receive another one
            self.retire(message.get("refused", "its worker cannot be taken over"))
            if future is not None and not future.done():
                future.set_exception(NotForked(self.reason))

    def _compare(self, version: str) -> None:
        if version != __version__:
            self.lose(f"cxg-proxy {version} is in its environment, {__version__} here")

    def _take(self, number: int, worker: Forked, future: asyncio.Future[Forked] | None) -> None:
        self.workers[number] = worker
        if future is not None and not future.done():
            future.set_result(worker)
        else:  # the request was given up; without its leash the worker ends
            worker.free()

    def _free(self, number: int) -> None:
        self.workers.pop(number, None)
        if not self.workers:
            self.news.set()
        if not self.lost:
            with contextlib.suppress(OSError):  # the parent has ended
                self._socket.send(json.dumps({"free": number}).encode())
