"""Waiting for a condition instead of a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait for a condition; fails if it is not met in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not met within {seconds} s"
        await asyncio.sleep(0.01)


def until_now(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait for a condition in a test without an event loop; fails if it is not met in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not met within {seconds} s"
        time.sleep(0.01)
