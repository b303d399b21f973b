"""Whose turn it is: a few heavy computations run, some requests wait, and more are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxg_proxy.errors import Busy
from cxg_proxy.viewer.progress import Cancelled

WAITING = 8  # requests that may wait for their turn, or for the matrix, beside those a worker answers at once
_ASK_SECONDS = 0.1  # between two questions whether somebody still waits


class Admission:
    """Lets `places` requests in, `at_once` of them at work, so that those who wait never take every thread."""

    def __init__(self, places: int, at_once: int = 1):
        self._places = threading.BoundedSemaphore(places)
        self._work = threading.BoundedSemaphore(at_once)

    @contextmanager
    def place(self, what: str) -> Iterator[None]:
        """Be one of those who may wait, or raise Busy when too many wait already."""
        if not self._places.acquire(blocking=False):
            raise Busy(what)
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def one(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Wait, in a place, for this request's turn; raises Cancelled when nobody waits for it any more."""
        while not self._work.acquire(timeout=_ASK_SECONDS):
            if cancelled():
                raise Cancelled
        try:
            yield
        finally:
            self._work.release()
