"""The progress of a long task: counted in bytes, reported regularly, and cancelled when its result is not needed."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEP_SECONDS = 0.2
_STEP_SHARE = 0.005


class Cancelled(Exception):
    """The result of this task is not needed any more."""


class Progress:
    """Reports the share that is done, rising from 0 to 1, at most five times a second."""

    def __init__(self, report: Callable[[float], None], cancelled: Callable[[], bool]):
        self._report = report
        self._cancelled = cancelled
        self._total = 1
        self._done = 0
        self._told = (0.0, 0.0)  # the share that was reported last, and when

    def begin(self, total: int) -> None:
        """Set the total number of bytes to read and write."""
        self._total = max(1, total)
        self._report(0.0)

    def advance(self, nbytes: int) -> None:
        """Count `nbytes` more bytes as read or written; raises Cancelled."""
        self.check()
        self._done += nbytes
        share, now = min(0.999, self._done / self._total), time.monotonic()
        if share >= self._told[0] + _STEP_SHARE and now >= self._told[1] + _STEP_SECONDS:
            self._told = (share, now)
            self._report(share)

    def check(self) -> None:
        """Raise Cancelled if the task was cancelled."""
        if self._cancelled():
            raise Cancelled

    def finished(self) -> None:
        """Report that all is done."""
        self._report(1.0)
