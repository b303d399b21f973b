"""Fake workers and their surroundings, and whether a process has ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from places import WORKERS

FAKE = WORKERS / "fake.py"


def fake(behaviour: str) -> Callable[[object, Path], list[str]]:
    """The command of a fake worker, in the form `instances` wants."""
    return lambda _, socket: [sys.executable, str(FAKE), behaviour, str(socket)]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment() -> dict[str, str]:
    """What a fake worker needs of its surroundings: this checkout's code, or the installed one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# In a mount namespace of its own, as root of a user namespace where the caller is not root.
ALONE = ["unshare", "--mount", "--map-root-user"]
