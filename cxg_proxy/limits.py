"""How many viewers may run, and how long anything may take."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

STALL_SECONDS = 300.0  # who neither sends nor reads for so long is cut off; jupyter-server-proxy waits as long


@dataclass(frozen=True)
class Limits:
    """How long and how many: times in seconds, 0 for never."""

    most: int = 4
    idle_seconds: float = 1800
    start_timeout: float = 600
    patience: float = 3
    in_use_seconds: float = 120  # used within this long: never closed to make room for another


async def within(timeout: float, event: asyncio.Event) -> None:
    """Wait for an event, at most `timeout` seconds."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting}, timeout=timeout)  # not wait_for, as in `disk`
    finally:
        waiting.cancel()
