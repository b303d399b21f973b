"""Waiting for a condition, never for seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait for a condition; fails when it is not met in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not met within {seconds} s"
        await asyncio.sleep(0.01)


def until_now(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """The same for tests without a loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not met within {seconds} s"
        time.sleep(0.01)
