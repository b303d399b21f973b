"""The admission of requests: a few heavy computations run, some requests wait, and further ones are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxg_proxy.errors import Busy
from cxg_proxy.viewer.progress import Cancelled

WAITING = 8  # requests that may wait for admission, or for the matrix, beside those a worker answers at once
_ASK_SECONDS = 0.1  # between two checks whether the client still waits


class Admission:
    """The admission of at most `places` requests, `at_once` of them at work, so that some threads stay free."""

    def __init__(self, places: int, at_once: int = 1):
        self._places = threading.BoundedSemaphore(places)
        self._running = threading.BoundedSemaphore(at_once)

    @contextmanager
    def queued(self, what: str) -> Iterator[None]:
        """Take one of the places, or raise Busy about `what` if all are taken."""
        if not self._places.acquire(blocking=False):
            raise Busy(what)
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def running(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Wait, within a place, until this request may run; raises Cancelled if its client no longer waits."""
        while not self._running.acquire(timeout=_ASK_SECONDS):
            if cancelled():
                raise Cancelled
        try:
            yield
        finally:
            self._running.release()
