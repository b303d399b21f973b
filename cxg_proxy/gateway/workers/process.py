"""A child process that lives exactly as long as a block.

::

    async with running(["python", "-m", "…"], cwd=folder, environment={…}, on_line=log.write) as child:
        async for line in child.lines(): ...

Leaving the block, for whatever reason, ends the child and its whole process group: its standard input closes (the
leash, which also closes if the parent is killed), then it gets TERM, and after `patience` seconds KILL.
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

# A step is a line of JSON with up to 20 log lines in it; a longer line cannot be a step.
MAX_LINE_BYTES = 1 << 20
KILL_SECONDS = 5.0
UNKNOWN = 256  # stands for the exit status of a child that another process reaped; real ones end at 255


class Started(Protocol):
    """A process started by the gateway or on its behalf: what `running` needs to read its output and to end it."""

    pid: int
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for the signal that ended it, UNKNOWN, or None while it runs."""

    async def wait(self) -> int:
        """Wait for the process to end, and return its exit status."""

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its children, but never if its id may belong to another process."""

    def free(self) -> None:
        """Release the process and its pipes; nothing is requested of it afterwards."""


Start = Callable[[Sequence[str | Path], Path, Mapping[str, str]], Awaitable[Started]]


class Starter(Protocol):
    """The interface of what starts workers."""

    async def warm(self) -> None:
        """Wait for whatever makes the next start quicker, if that is sensible."""

    async def start(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Started:
        """Start a worker now; raises OSError if it cannot be started."""


class _DirectChild:
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
        if self.returncode is None:  # once it is reaped, its id may belong to another process
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def free(self) -> None:
        """Do nothing: asyncio closes the pipes."""


async def fresh(
    command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str], *, keep: Sequence[int] = ()
) -> Started:
    """Start a program as a direct child of this process; raises OSError if it cannot be started.

    `keep` are the file descriptors that it inherits besides the usual three.
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
        start_new_session=True,  # Ctrl-C in the terminal must reach the gateway only, which passes it on
    )
    return _DirectChild(process)


class Ordinary:
    """Starts each worker as a separate program."""

    async def warm(self) -> None:
        """Do nothing: no preparation makes it quicker."""

    async def start(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Started:
        """Start the worker as a direct child of this process."""
        return await fresh(command, cwd, environment)


class Child:
    """A running child process: its steps and its end."""

    def __init__(self, process: Started, errors: asyncio.Future[None]) -> None:
        self._process, self._errors = process, errors
        self.pid: int = process.pid

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of its standard output until that closes."""
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:  # a line beyond MAX_LINE_BYTES is dropped, the next one may be fine
                continue
            if not line:
                return
            yield line

    async def wait(self) -> int:
        """Wait for the child to end; return the exit status, negative for the signal that ended it."""
        return await self._process.wait()

    async def wait_for_errors(self) -> None:
        """Wait, once the child has ended, until all that it wrote to its standard error has been read."""
        # Grandchildren may keep the pipe open; what the child itself wrote can be read at once.
        await asyncio.wait({self._errors}, timeout=0.2)

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.returncode

    async def write(self, text: bytes) -> None:
        """Write to its standard input; a child that has ended is no error, because its end is reported elsewhere."""
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
    """Start `command` (a list, never shell text), and end it with the block.

    `on_line` receives every line of its standard error. `patience` is in seconds. Raises OSError if it cannot be
    started.
    """
    process = await start(command, cwd, environment)
    reading = asyncio.ensure_future(_read_lines(process, on_line))
    child = Child(process, reading)
    try:
        yield child
    finally:
        # The child must be ended completely, even if this task is cancelled meanwhile.
        await _uninterrupted(_end(process, patience))
        await child.wait_for_errors()
        reading.cancel()
        process.free()
        await asyncio.gather(reading, return_exceptions=True)


async def _read_lines(process: Started, on_line: Callable[[bytes], None]) -> None:
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:
            continue
        if not line:
            return
        on_line(line)


async def _end(process: Started, patience: float) -> None:
    """Close the leash, send TERM, wait `patience` seconds, then send KILL to the group."""
    process.stdin.close()
    process.signal_group(signal.SIGTERM)  # also to its children: once it is reaped, its group cannot be signalled
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), patience)
    except asyncio.TimeoutError:
        process.signal_group(signal.SIGKILL)
        with contextlib.suppress(asyncio.TimeoutError):  # a process that not even KILL ends hangs on its disk
            await asyncio.wait_for(asyncio.shield(process.wait()), KILL_SECONDS)


async def _uninterrupted(coroutine: Coroutine[None, None, None]) -> None:
    """Await `coroutine` to its end; a cancellation meanwhile is passed on only afterwards."""
    task = asyncio.ensure_future(coroutine)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def describe_status(status: int) -> str:
    """Return an exit status as a person would describe it."""
    if status == UNKNOWN:
        return "nobody could see how it ended"
    if status >= 0:
        return "it ended by itself" if status == 0 else f"it ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    causes: dict[int, str] = {
        signal.SIGKILL: "it was killed from outside",
        signal.SIGSEGV: "it crashed on a memory error of its own",
        signal.SIGABRT: "it aborted",
        signal.SIGTERM: "it was asked to end",
        signal.SIGBUS: "its file was cut off or its disk went away while it was being read",
    }
    return f"{causes.get(-status, 'a signal ended it')}, {name}"


async def within(timeout: float, event: asyncio.Event) -> None:
    """Wait for an event, at most `timeout` seconds."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=timeout)  # not wait_for, for the same reason as in `files.disk`
    finally:
        waiting.cancel()
