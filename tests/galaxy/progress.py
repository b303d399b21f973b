"""What a person at a terminal reads while this goes on: a line for each step that takes longer than a moment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

REASONS = Path(os.environ.get("CXG_ARTEFACTS", "build/artefacts/galaxy")) / "cannot-begin.log"
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


@contextlib.contextmanager
def needed(what: str) -> Iterator[None]:
    """End the whole run with one sentence, if what every test needs cannot be set up."""
    try:
        yield
    except (AssertionError, OSError, subprocess.SubprocessError) as problem:
        REASONS.parent.mkdir(parents=True, exist_ok=True)
        REASONS.write_text(traceback.format_exc())
        said = [line.strip() for line in str(problem).splitlines() if line.strip()] or [type(problem).__name__]
        reason = " … ".join(dict.fromkeys((said[0][:200], said[-1][:200])))
        pytest.exit(f"The tests cannot begin, because {what} cannot be set up: {reason} ({REASONS} has it all)", 1)
