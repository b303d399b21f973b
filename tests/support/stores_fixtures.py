"""Helpers for tests of stores: datasets with a matrix, and separate programs that make their stores."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from places import WORKERS
from processes import environment
from viewer_fixtures import cells

MAKER = WORKERS / "store_maker.py"
MEMORY = 2**28
PLENTY = 2**62
ANA, BEN, LAB = 4_001, 4_002, 4_100  # ids of users and a group, which need not exist on this machine
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act for other users")
Make = Callable[..., Any]


def never() -> bool:
    return False


def ignore(_: float) -> None:
    pass


def write(path: Path, *, count: int = 300, genes: int = 200, seed: int = 1) -> Path:
    """Write a dataset with a sparse matrix by rows."""
    data = cells(count, genes)
    matrix = sparse.random(count, genes, density=0.2, format="csr", dtype=np.float32, rng=np.random.default_rng(seed))
    data.X = matrix
    path.parent.mkdir(parents=True, exist_ok=True)
    data.write_h5ad(path)
    return path


def total(there: Any) -> float:
    """Return the sum of all values, which tells two matrices apart."""
    return float(there.matrix.columns(np.arange(there.shape[1])).sum(dtype=np.float64))


class Maker:
    """A running program that makes a store."""

    def __init__(self, *words: object, user: int | None = None):
        pipe = subprocess.PIPE
        command = [sys.executable, str(MAKER), *map(str, words)]
        who = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment(), **who)  # type: ignore[call-overload]
        self.heard: list[dict[str, Any]] = []

    def until(self, name: str, least: Any = None) -> Any:
        """Wait for a line with this name, and a value of at least `least`; returns the line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.heard.append(json.loads(line))
            if name in self.heard[-1] and (least is None or self.heard[-1][name] >= least):
                return self.heard[-1]
        raise AssertionError(f"it ended before it said {name}: {self.heard}")

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def maker(*words: object, user: int | None = None) -> Iterator[Maker]:
    """Start a program that makes a store, as another user if one is named; it ends with the block."""
    made = Maker(*words, user=user)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def names(cache: Path) -> list[str]:
    """Return the sorted names in the folder of stores."""
    return sorted(path.name for path in (cache / "stores").iterdir())


def used(folder: Path, days_ago: float) -> None:
    """Set the time of the last use of a store to this many days ago."""
    then = time.time() - days_ago * 86_400
    os.utime(folder / "store.json", (then, then))
