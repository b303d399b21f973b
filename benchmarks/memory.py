"""Memory as PSS (proportional set size): a page that n processes share counts 1/n in each, so sums are true."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

FIELDS = ("Pss", "Pss_File", "Private_Dirty")


@dataclass(frozen=True)
class Memory:
    """What some processes hold, in bytes."""

    total: int = 0  # PSS
    files: int = 0  # of it, pages of mapped files: programs, libraries and stores, which the kernel may take back
    private: int = 0  # written by one process alone

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.total + other.total, self.files + other.files, self.private + other.private)


def of(pids: Iterable[int]) -> Memory:
    """What these processes hold now; one that has ended holds nothing."""
    return sum((_one(pid) for pid in pids), Memory())


def _one(pid: int) -> Memory:
    found = dict.fromkeys(FIELDS, 0)
    with contextlib.suppress(OSError):  # it has ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return Memory(found["Pss"], found["Pss_File"], found["Private_Dirty"])


def tree(pid: int) -> list[int]:
    """A process and all that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


class Peak:
    """The most memory that is held at any moment, and what was held before; sampled by `watched`."""

    def __init__(self, before: Memory) -> None:
        self.before = before
        self.samples = [before]

    @property
    def total(self) -> int:
        """All of it, at its most."""
        return max(each.total for each in self.samples)

    @property
    def more(self) -> int:
        """How much more than before, pages of files included."""
        return self.total - self.before.total

    @property
    def more_files(self) -> int:
        """How much more of it than before were pages of files, such as a store's, at the moment with most of them."""
        return max(each.files for each in self.samples) - self.before.files


@contextlib.contextmanager
def watched(pids: Callable[[], Iterable[int]], seconds: float = 0.02) -> Iterator[Peak]:
    """Look at what these processes hold every so often during a block."""
    peak, stop = Peak(of(pids())), threading.Event()

    def watch() -> None:
        pause = seconds
        while not stop.wait(pause):
            begin = time.perf_counter()
            peak.samples.append(of(pids()))
            pause = max(seconds, 9 * (time.perf_counter() - begin))  # a large process takes long to look at

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
