"""A forked worker: one that another process forked for the gateway, and that `process.running` treats like any child.

It is not a child of the gateway, so the system neither reports its exit status to the gateway nor reserves its process
id. Its parent does both. If the parent has gone, the descriptor of the process (pidfd_open(2)) still shows that it has
ended, though not how.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import socket
from collections.abc import Callable
from typing import IO, Any

from .process import MAX_LINE_BYTES, UNKNOWN

STATUS_SECONDS = 2.0  # how long after a worker's end its parent may take to report how it ended


class StdioPipes:
    """Both ends of a worker's standard input, output and error, until those who use them have taken them over."""

    def __init__(self) -> None:
        self._all = contextlib.ExitStack()
        self._child_side = contextlib.ExitStack()
        self.stdin, stdin = socket.socketpair()
        self._all.callback(self.stdin.close)
        self._child_side.callback(stdin.close)
        self.stdout, stdout = self._pipe()
        self.stderr, stderr = self._pipe()
        self.child_ends = [stdin.fileno(), stdout, stderr]

    def _pipe(self) -> tuple[IO[bytes], int]:
        reading, writing = os.pipe()
        self._child_side.callback(os.close, writing)
        return self._all.enter_context(os.fdopen(reading, "rb", buffering=0)), writing

    def close_child_ends(self) -> None:
        """Close the worker's ends here, once the worker has them or never will.

        Only when no copy of them is left in this process do the streams close with the worker.
        """
        self._child_side.close()

    def detach(self) -> None:
        """Give up the gateway's ends, which their new owner closes."""
        self._all.pop_all()

    def close(self) -> None:
        """Close the ends that are still here."""
        self._child_side.close()
        self._all.close()


class _Output(asyncio.StreamReader):
    """A stream that knows whether any data has arrived."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_LINE_BYTES)
        self.begun = asyncio.Event()
        self.silent = True

    def feed_data(self, data: Any) -> None:
        self.silent = False
        self.begun.set()
        super().feed_data(data)

    def feed_eof(self) -> None:
        self.begun.set()
        super().feed_eof()


class Forked:
    """One forked worker; it is created as soon as its process id arrives, so that its end cannot be missed."""

    stdin: asyncio.StreamWriter
    stderr: asyncio.StreamReader

    def __init__(self, pid: int, descriptor: int, free: Callable[[], None]) -> None:
        self.pid = pid
        self._output = _Output()
        self.stdout: asyncio.StreamReader = self._output
        self._descriptor, self._free = descriptor, free
        self._transports: list[asyncio.BaseTransport] = []
        self._loop = asyncio.get_running_loop()
        self._status: asyncio.Future[int] = self._loop.create_future()
        self._parent_lost = False
        self._freed = False
        self._loop.add_reader(descriptor, self._ended)

    async def connect(self, ends: StdioPipes) -> None:
        """Connect to the gateway's ends of its streams; raises OSError."""
        _, self.stdin = await asyncio.open_unix_connection(sock=ends.stdin)
        self.stderr = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self._transports.append(self.stdin.transport)
        for stream, end in ((self.stdout, ends.stdout), (self.stderr, ends.stderr)):
            protocol = functools.partial(asyncio.StreamReaderProtocol, stream)
            transport, _ = await self._loop.connect_read_pipe(protocol, end)
            self._transports.append(transport)
        ends.detach()

    async def first_word(self) -> bool:
        """Wait until it has written something; return False if it ended before."""
        await self._output.begun.wait()
        return not self._output.silent

    # --- what `process.Started` requires ----------------------------------------------------------------------

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs."""
        return self._status.result() if self._status.done() else None

    async def wait(self) -> int:
        """Wait for the worker to end, and return its exit status."""
        return await asyncio.shield(self._status)

    def signal_group(self, number: int) -> None:
        """Send a signal to the worker and its children, unless it has ended."""
        # Its parent reserves its process id until `free`. If the parent has gone, the id could be given to another
        # process only in the moment between this check and the signal.
        if not self._freed and not _readable(self._descriptor):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def free(self) -> None:
        """Close the streams that lead to it, and let its parent reap it."""
        if not self._freed:
            self._freed = True
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            for transport in self._transports:
                transport.close()
            self._free()

    # --- its end ----------------------------------------------------------------------------------------------

    def note_status(self, status: int) -> None:
        """Record the exit status that its parent reports."""
        if not self._status.done():
            self._status.set_result(status)

    def note_parent_lost(self) -> None:
        """Note that its parent has gone, so that its exit status cannot be reported any more."""
        self._parent_lost = True
        if not self._freed and _readable(self._descriptor):
            self.note_status(UNKNOWN)

    def _ended(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._loop.call_later(0 if self._parent_lost else STATUS_SECONDS, self.note_status, UNKNOWN)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
