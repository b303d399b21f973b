"""Whose turn it is: one heavy computation runs, a few wait, and more are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cxg_proxy.errors import Busy


class Turns:
    """Lets `places` requests in, one of them at work, so that those who wait never take every thread."""

    def __init__(self, places: int):
        self._places = threading.BoundedSemaphore(places)
        self._work = threading.Lock()

    @contextmanager
    def one(self, what: str) -> Iterator[None]:
        """Wait for this request's turn, or raise Busy when too many wait already."""
        if not self._places.acquire(blocking=False):
            raise Busy(what)
        try:
            with self._work:
                yield
        finally:
            self._places.release()
