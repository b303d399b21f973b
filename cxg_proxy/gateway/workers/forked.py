"""A worker that was forked for us by another process: to `process.running` it is a child like every other.

It is not our child, so the system tells us neither its exit status nor keeps its number for us. Its parent does both,
and where that has gone, the descriptor of the process (pidfd_open(2)) still tells that it has ended, if not how.
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

STATUS_SECONDS = 2.0  # between the end of a worker and its parent's word on how it ended


class StdioPipes:
    """Both ends of a worker's standard input, output and error, until they are with those who use them."""

    def __init__(self) -> None:
        self._all = contextlib.ExitStack()
        self._theirs = contextlib.ExitStack()
        self.stdin, stdin = socket.socketpair()
        self._all.callback(self.stdin.close)
        self._theirs.callback(stdin.close)
        self.stdout, stdout = self._pipe()
        self.stderr, stderr = self._pipe()
        self.theirs = [stdin.fileno(), stdout, stderr]

    def _pipe(self) -> tuple[IO[bytes], int]:
        reading, writing = os.pipe()
        self._theirs.callback(os.close, writing)
        return self._all.enter_context(os.fdopen(reading, "rb", buffering=0)), writing

    def close_theirs(self) -> None:
        """The worker has them, or never will: only with ours alone here, its end is heard."""
        self._theirs.close()

    def taken(self) -> None:
        """Ours are somebody else's to close now."""
        self._all.pop_all()

    def close(self) -> None:
        """Close what is still here."""
        self._theirs.close()
        self._all.close()


class _Output(asyncio.StreamReader):
    """A stream that knows whether anything has come."""

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
    """One such worker; made at once when it is heard of, so that its end cannot be missed."""

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
        self._alone = False  # its parent has gone
        self._freed = False
        self._loop.add_reader(descriptor, self._ended)

    async def connect(self, ends: StdioPipes) -> None:
        """Have our ends of its streams; raises OSError."""
        _, self.stdin = await asyncio.open_unix_connection(sock=ends.stdin)
        self.stderr = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self._transports.append(self.stdin.transport)
        for stream, end in ((self.stdout, ends.stdout), (self.stderr, ends.stderr)):
            protocol = functools.partial(asyncio.StreamReaderProtocol, stream)
            transport, _ = await self._loop.connect_read_pipe(protocol, end)
            self._transports.append(transport)
        ends.taken()

    async def first_word(self) -> bool:
        """Wait until it has said something; False if it ended before."""
        await self._output.begun.wait()
        return not self._output.silent

    # --- what `process.Started` wants -------------------------------------------------------------------------

    @property
    def returncode(self) -> int | None:
        """The exit status, None while it runs."""
        return self._status.result() if self._status.done() else None

    async def wait(self) -> int:
        """Wait for its end."""
        return await asyncio.shield(self._status)

    def signal_group(self, number: int) -> None:
        """Send a signal to it and its children, unless it has ended."""
        # Its parent keeps its number from others until `free`. Where that has gone, there is only the moment between
        # these two lines, in which its number would have to be given to somebody else.
        if not self._freed and not _readable(self._descriptor):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def free(self) -> None:
        """Close what leads to it, and let its parent reap it."""
        if not self._freed:
            self._freed = True
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            for transport in self._transports:
                transport.close()
            self._free()

    # --- its end ----------------------------------------------------------------------------------------------

    def told(self, status: int) -> None:
        """Its parent says how it ended."""
        if not self._status.done():
            self._status.set_result(status)

    def left_alone(self) -> None:
        """Its parent has gone: nobody will say how it ends."""
        self._alone = True
        if not self._freed and _readable(self._descriptor):
            self.told(UNKNOWN)

    def _ended(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._loop.call_later(0 if self._alone else STATUS_SECONDS, self.told, UNKNOWN)


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
