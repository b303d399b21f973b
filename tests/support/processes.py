"""Processes of fake workers: their command and environment, and whether one has ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from places import WORKERS

FAKE = WORKERS / "fake.py"


def fake(behaviour: str) -> Callable[[object, Path], list[str]]:
    """Return a function that makes the command of a fake worker, as `Instances` takes it."""
    return lambda _, socket: [sys.executable, str(FAKE), behaviour, str(socket)]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment() -> dict[str, str]:
    """Return the environment of a fake worker, which finds the code of this checkout or the installed one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# Runs a command in its own mount namespace, as root of a user namespace if the caller is not root.
ALONE = ["unshare", "--mount", "--map-root-user"]
