"""What a person at a terminal reads while this goes on: a line for each step that takes longer than a moment."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

BEGAN = time.monotonic()
TIMES: dict[str, float] = {}


def say(text: str) -> None:
    """A line with the time since the start."""
    print(f"==> {time.monotonic() - BEGAN:4.0f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(text)
    began = time.monotonic()
    yield
    TIMES[text] = time.monotonic() - began
    if TIMES[text] > 1:
        say(f"{text}: {TIMES[text]:.0f} s")
