"""The report of a child: the steps that it writes, its result, and the reason why it ended.

::

    async with reporting(command, "pbmc.h5ad", log, cwd=folder, environment={…}) as report:
        async for step in report.steps(): ...
        if not report.ready:
            raise await report.death()
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cxg_proxy import __version__
from cxg_proxy.errors import Died, NotEnoughMemory, Problem, ViewerMismatch, ViewerMissing
from cxg_proxy.steps import Phase, Step

from .process import UNKNOWN, Child, Start, describe_status, fresh, running
from .usage import oom_kills

LOG_LINES = 20  # the last lines of a child's log that a page shows


class Report:
    """The report of one running child. `last` is its latest step, `result` its latest JSON object that is no step."""

    def __init__(self, child: Child, label: str, python: str, log: deque[str]) -> None:
        self.child, self.log = child, log
        self.last: Step | None = None
        self.result: dict[str, Any] = {}
        self._label, self._python = label, python
        self._oom_kills = oom_kills()

    async def steps(self) -> AsyncIterator[Step]:
        """Yield the child's steps until it ends.

        Raises ViewerMismatch if its version is not this one, and the Problem that it reports when it fails.
        """
        async for line in self.child.lines():
            step = self._read(line)
            if step is None:
                continue
            self.last = step
            if step.version and step.version != __version__:
                raise ViewerMismatch(detail=f"{step.version} there, {__version__} here")
            if step.problem is not None or step.phase is Phase.FAILED:
                raise step.problem or Died(self._label)
            yield step

    def _read(self, line: bytes) -> Step | None:
        with contextlib.suppress(ValueError, TypeError):
            return Step.parse(line)
        with contextlib.suppress(ValueError):  # some library wrote to standard output
            data = json.loads(line)
            self.result = data if isinstance(data, dict) else self.result
        return None

    @property
    def ready(self) -> bool:
        """Whether its latest step says that it is ready, which is the last step of a job."""
        return self.last is not None and self.last.phase is Phase.READY

    def missing(self) -> ViewerMissing | None:
        """Return the Problem of a Python that lacks a module, if the log says so."""
        line = next((line for line in self.log if "No module named" in line), None)
        return None if line is None else ViewerMissing(self._python, detail=line, log=tuple(self.log))

    async def status(self) -> int:
        """Wait until the child has ended and its log is complete, and return its exit status."""
        status = await self.child.wait()
        await self.child.wait_for_errors()
        return status

    async def ending(self) -> str:
        """Wait for the child to end, and describe its end: by a signal, or by the last line of its log."""
        status = await self.status()
        if status < 0:
            return describe_status(status)
        return self.log[-1] if self.log else "the program stopped"

    async def death(self) -> Problem:
        """Wait for the child to end, and return the Problem of an end that nobody asked for, as far as it is known."""
        status = await self.status()
        log, ended = tuple(self.log), describe_status(status)
        if self.last is None and 0 < status < UNKNOWN:  # it was no worker of cxg-proxy
            without = any("No module named" in line and "cxg_proxy" in line for line in log)
            return ViewerMissing(self._python, detail="it has no cxg-proxy" if without else ended, log=log)
        for_memory = oom_kills() > self._oom_kills  # the system has ended some process for lack of memory meanwhile
        if status == -9 and for_memory:
            return NotEnoughMemory(self._label, detail="the system ended it for lack of memory", log=log)
        if status == -9:
            return Died(self._label, detail=f"{ended}; lack of memory is the usual reason", log=log)
        if status == UNKNOWN and for_memory:
            return Died(self._label, detail=f"{ended}; the system has ended something for lack of memory", log=log)
        return Died(self._label, detail=ended, log=log)


@contextlib.asynccontextmanager
async def reporting(
    command: Sequence[str | Path],
    label: str,
    log: deque[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    on_line: Callable[[bytes], None] | None = None,
    patience: float = 3.0,
    start: Start = fresh,
) -> AsyncIterator[Report]:
    """Run a child of the viewer's environment as long as the block lasts (see `running`), and yield its report.

    `label` names what it works on in its Problems. Its standard error is kept in `log`, or handed to `on_line`, which
    keeps it there. Raises ViewerMissing if it cannot be started.
    """

    def keep(line: bytes) -> None:
        log.append(line.decode(errors="replace").rstrip())

    child = running(command, cwd=cwd, environment=environment, on_line=on_line or keep, patience=patience, start=start)
    async with contextlib.AsyncExitStack() as block:
        try:
            started = await block.enter_async_context(child)
        except OSError as reason:  # its Python does not exist
            raise ViewerMissing(str(command[0]), detail=reason.strerror or str(reason)) from reason
        yield Report(started, label, str(command[0]), log)
