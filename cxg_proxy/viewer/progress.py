"""How much of a long work is done: counted in bytes, told now and then, and given up where nobody wants it any more."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEP_SECONDS = 0.2
_STEP_SHARE = 0.005


class Cancelled(Exception):
    """Nobody waits for this work any more."""


class Progress:
    """Tells the share that is done, rising from 0 to 1, at most five times a second."""

    def __init__(self, report: Callable[[float], None], cancelled: Callable[[], bool]):
        self._report = report
        self._cancelled = cancelled
        self._total = 1
        self._done = 0
        self._told = (0.0, 0.0)  # what was reported last, and when

    def expect(self, total: int) -> None:
        """Say how many bytes are read and written in all."""
        self._total = max(1, total)
        self._report(0.0)

    def done(self, count: int) -> None:
        """So many bytes more are read or written; raises Cancelled if that is enough."""
        self.check()
        self._done += count
        share, now = min(0.999, self._done / self._total), time.monotonic()
        if share >= self._told[0] + _STEP_SHARE and now >= self._told[1] + _STEP_SECONDS:
            self._told = (share, now)
            self._report(share)

    def check(self) -> None:
        """Raise Cancelled if nobody wants the work any more."""
        if self._cancelled():
            raise Cancelled

    def finished(self) -> None:
        """All of it is done."""
        self._report(1.0)
