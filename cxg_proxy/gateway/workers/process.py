"""One child process, alive exactly as long as a block.

::

    async with running(["python", "-m", "…"], cwd=folder, environment={…}, hear=log.write) as child:
        async for line in child.lines(): ...

Leaving the block, for whatever reason, ends the child and all of its group: its standard input closes (the
leash: a child whose parent was killed sees the same), then TERM, then after `patience` seconds KILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Protocol

# A step is a line of JSON with up to 20 log lines in it; anything longer is not ours.
MAX_LINE_BYTES = 1 << 20
KILL_SECONDS = 5.0
UNKNOWN = 256  # stands for the exit status of a child that somebody else reaped: real ones end at 255


class Started(Protocol):
    """A process that was started, by us or for us: what `running` needs to listen to it and to end it."""

    pid: int
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for the signal that ended it, UNKNOWN, or None while it runs."""

    async def wait(self) -> int:
        """Wait for its end."""

    def signal_group(self, number: int) -> None:
        """Send a signal to it and its children; never when its number may belong to somebody else."""

    def free(self) -> None:
        """Let go of it and of what leads to it; nothing of it is asked afterwards."""


Start = Callable[[Sequence[str | Path], Path, Mapping[str, str]], Awaitable[Started]]


class Starter(Protocol):
    """Starts workers."""

    async def warm(self) -> None:
        """Wait for what makes the next start quicker, if that is sensible."""

    async def start(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Started:
        """Start a worker now; raises OSError if it cannot be started."""


class _Own:
    """A child that this process started itself."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.pid: int = process.pid
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        return await self._process.wait()

    def signal_group(self, number: int) -> None:
        if self.returncode is None:  # once it is reaped, its number may belong to somebody else
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def free(self) -> None:
        """Nothing: asyncio closes what leads to it."""


async def fresh(
    command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str], *, keep: Sequence[int] = ()
) -> Started:
    """Start a program as a child of our own; `keep` are the descriptors that it is to have beside the usual three.

    Raises OSError if it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=dict(environment),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=MAX_LINE_BYTES,
        pass_fds=keep,
        start_new_session=True,  # a Ctrl-C in the gateway's terminal is the gateway's to pass on
    )
    return _Own(process)


class Ordinary:
    """Starts each worker as a program of its own."""

    async def warm(self) -> None:
        """Nothing makes it quicker."""

    async def start(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Started:
        """Start it as a child of our own."""
        return await fresh(command, cwd, environment)


class Child:
    """A running process: its steps, its end."""

    def __init__(self, process: Started) -> None:
        self._process = process
        self.pid: int = process.pid

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines of its standard output, until it closes."""
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # a line beyond MAX_LINE_BYTES is dropped, the next one may be fine
                continue
            if not line:
                return
            yield line

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for the signal that ended it."""
        return await self._process.wait()

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.returncode

    async def tell(self, text: bytes) -> None:
        """Write to its standard input; a child that has gone is not an error here, its end is told elsewhere."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(text)
            await self._process.stdin.drain()


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    on_line: Callable[[bytes], None],
    patience: float = 3.0,
    start: Start = fresh,
) -> AsyncIterator[Child]:
    """Start `command` (a list, never shell text) and end it with the block.

    `on_line` gets every line of its standard error. `patience` is in seconds. Raises OSError if it cannot be started.
    """
    process = await start(command, cwd, environment)
    hearing = asyncio.ensure_future(_hear(process, on_line))
    try:
        yield Child(process)
    finally:
        # The ladder must be climbed to its end even when this task is cancelled meanwhile.
        await _uninterrupted(_end(process, patience))
        # Grandchildren may keep the pipe open; what the child itself wrote is there at once.
        await asyncio.wait({hearing}, timeout=0.2)
        hearing.cancel()
        process.free()
        await asyncio.gather(hearing, return_exceptions=True)


async def _hear(process: Started, on_line: Callable[[bytes], None]) -> None:
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:
            continue
        if not line:
            return
        on_line(line)


async def _end(process: Started, patience: float) -> None:
    """Close the leash, TERM, wait `patience` seconds, KILL the group."""
    process.stdin.close()
    process.signal_group(signal.SIGTERM)  # its children too: once it is reaped, nobody could name them
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), patience)
    except asyncio.TimeoutError:
        process.signal_group(signal.SIGKILL)
        with contextlib.suppress(asyncio.TimeoutError):  # what not even KILL ends hangs in its disk
            await asyncio.wait_for(asyncio.shield(process.wait()), KILL_SECONDS)


async def _uninterrupted(work: Coroutine[None, None, None]) -> None:
    """Await `work` to its end; a cancellation meanwhile is passed on only afterwards."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def words(status: int) -> str:
    """An exit status as a person would say it."""
    if status == UNKNOWN:
        return "nobody could see how it ended"
    if status >= 0:
        return "it ended by itself" if status == 0 else f"it ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    said: dict[int, str] = {
        signal.SIGKILL: "it was killed from outside",
        signal.SIGSEGV: "it crashed on a memory error of its own",
        signal.SIGABRT: "it aborted",
        signal.SIGTERM: "it was asked to end",
        signal.SIGBUS: "its file was cut off or its disk went away while it was being read",
    }
    return f"{said.get(-status, 'a signal ended it')}, {name}"


async def within(timeout: float, event: asyncio.Event) -> None:
    """Wait for an event, at most `timeout` seconds."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=timeout)  # not wait_for, as in `disk`
    finally:
        waiting.cancel()
