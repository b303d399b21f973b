"""What a child says of itself, step by step, and why it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from cxg_proxy.errors import Died, NotEnoughMemory, Problem, ViewerMissing
from cxg_proxy.steps import Step

from .process import UNKNOWN, Child, words


async def steps(child: Child) -> AsyncIterator[Step]:
    """What a worker says, step by step, until it ends."""
    async for line in child.lines():
        try:
            step = Step.parse(line)
        except (ValueError, TypeError):
            continue  # not ours: some library wrote to standard output
        yield step


def no_worker(python: str, status: int, log: Sequence[str]) -> Problem:
    """What was started ended before its first word: it is no worker of ours."""
    without = any("No module named" in line and "cxg_proxy" in line for line in log)
    return ViewerMissing(python, detail="it has no cxg-proxy" if without else words(status), log=log)


def death(label: str, status: int, log: Sequence[str], *, for_memory: bool) -> Problem:
    """Why a worker ended, as far as can be known; `for_memory` if the system has ended something for lack of it."""
    if status == -9 and for_memory:
        return NotEnoughMemory(label, detail="the system ended it for lack of memory", log=log)
    if status == -9:
        return Died(label, detail=f"{words(status)}; lack of memory is the usual reason", log=log)
    if status == UNKNOWN and for_memory:
        return Died(label, detail=f"{words(status)}; the system has ended something for lack of memory", log=log)
    return Died(label, detail=words(status), log=log)
