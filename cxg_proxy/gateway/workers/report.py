"""The report of a worker: the steps that it writes, and the reason why it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cxg_proxy.errors import Died, NotEnoughMemory, Problem, ViewerMissing
from cxg_proxy.steps import Step

from .process import UNKNOWN, Child, describe_status


async def steps(child: Child) -> AsyncIterator[Step]:
    """Yield the steps that a worker reports, until it ends."""
    async for line in child.lines():
        try:
            step = Step.parse(line)
        except (ValueError, TypeError):
            continue  # not a step: some library wrote to standard output
        yield step


def no_worker(python: str, status: int, log: Sequence[str]) -> Problem:
    """Return the Problem of a process that ended before its first step, so that it was no worker of cxg-proxy."""
    without = any("No module named" in line and "cxg_proxy" in line for line in log)
    return ViewerMissing(python, detail="it has no cxg-proxy" if without else describe_status(status), log=log)


def death(label: str, status: int, log: Sequence[str], *, for_memory: bool) -> Problem:
    """Return the Problem of a worker that ended, as far as it can be known.

    `for_memory` means that the system has ended some process for lack of memory meanwhile.
    """
    ended = describe_status(status)
    if status == -9 and for_memory:
        return NotEnoughMemory(label, detail="the system ended it for lack of memory", log=log)
    if status == -9:
        return Died(label, detail=f"{ended}; lack of memory is the usual reason", log=log)
    if status == UNKNOWN and for_memory:
        return Died(label, detail=f"{ended}; the system has ended something for lack of memory", log=log)
    return Died(label, detail=ended, log=log)
