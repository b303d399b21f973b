"""A real worker that records what its comparisons do, and in which each comparison waits at the matrix for a file.

With the word `blocks` before its options, comparisons read one gene at a time.
"""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxg_proxy.viewer.__main__ import main
from cxg_proxy.viewer.compute import diffexp
from cxg_proxy.viewer.dataset import load
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.dataset.metadata import Metadata
from cxg_proxy.viewer.store.matrix import Dense

PLACE = Path.cwd()
LOCK = threading.Lock()
READ = load.load_dataset


def note(what: str) -> None:
    with LOCK, (PLACE / "noted").open("a") as noted:
        noted.write(f"{what}\n")


class Held(Dense):
    """A matrix at which the threads of comparisons wait for the file `go`; it records when their page is gone."""

    cancelled: Callable[[], bool]

    def __getattribute__(self, name: str) -> Any:
        if name == "values" and threading.current_thread().name.startswith("diffexp"):
            note("begins")
            gone = False
            while not (PLACE / "go").exists():
                if not gone and self.cancelled():
                    note("gone")
                    gone = True
                time.sleep(0.01)
            note("ends")
        return super().__getattribute__(name)

    def give_back(self, first: int, last: int) -> None:
        """Do nothing: the matrix lies in no file."""


class Noted:
    """The expression of a dataset, with a `Held` matrix."""

    def __init__(self, whole: Expression):
        self._whole = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def matrix(self, cancelled: Callable[[], bool]) -> Dense:
        found = self._whole.matrix(cancelled)
        assert isinstance(found, Dense)
        held = Held(found.values)
        object.__setattr__(held, "cancelled", cancelled)
        return held

    def distribution(self, cancelled: Callable[[], bool]) -> str:
        """Record the call: it is the last one that a comparison makes before it waits for its turn."""
        found = self._whole.distribution(cancelled)
        note("queues")
        return found


def read(*how: Any) -> tuple[Metadata, Any]:
    rest, whole = READ(*how)
    return rest, Noted(whole)


if sys.argv[1] == "blocks":
    del sys.argv[1]
    diffexp._BLOCK_VALUES = 1
load.load_dataset = read  # type: ignore[assignment]
sys.exit(main(sys.argv[1:]))
