"""The progress of a long task: counted in bytes, reported regularly, and cancelled when its result is not needed."""

from __future__ import annotations

import time
from collections.abc import Callable

Report = Callable[[float], None]

_STEP_SECONDS = 0.25
_STEP_SHARE = 0.005


class Cancelled(Exception):
    """The result of this task is not needed any more."""


class Throttled:
    """Passes a share, which rises from 0 to 1, on to `report`: at most four times a second, and the first one at once.

    Whoever counts bytes throttles its reports by it, so that nobody who receives them has to.
    """

    def __init__(self, report: Report):
        self._report = report
        self._last, self._next = -1.0, 0.0  # the share reported last, and when the next one may be

    def __call__(self, share: float) -> None:
        """Report the share, unless one was reported just before or it has hardly risen."""
        now = time.monotonic()
        if share >= self._last + _STEP_SHARE and now >= self._next:
            self._last, self._next = share, now + _STEP_SECONDS
            self._report(share)


class Progress:
    """Reports the share that is done, rising from 0 to 1, as bytes are read and written."""

    def __init__(self, report: Report, cancelled: Callable[[], bool]):
        self._report, self._throttled = report, Throttled(report)
        self._cancelled = cancelled
        self._total = 1
        self._done = 0

    def begin(self, total: int) -> None:
        """Set the total number of bytes to read and write."""
        self._total = max(1, total)
        self._report(0.0)

    def advance(self, nbytes: int) -> None:
        """Count `nbytes` more bytes as read or written; raises Cancelled."""
        self.check()
        self._done += nbytes
        self._throttled(min(0.999, self._done / self._total))

    def check(self) -> None:
        """Raise Cancelled if the task was cancelled."""
        if self._cancelled():
            raise Cancelled

    def finished(self) -> None:
        """Report that all is done."""
        self._report(1.0)
