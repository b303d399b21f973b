"""Memory as PSS (proportional set size): a page that n processes share counts 1/n in each, so sums are correct."""

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
    """The memory of some processes, in bytes."""

    total: int = 0  # PSS
    files: int = 0  # the part in pages of mapped files: programs, libraries and stores, which the kernel may drop
    private: int = 0  # pages written by one process alone

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.total + other.total, self.files + other.files, self.private + other.private)


def of(pids: Iterable[int]) -> Memory:
    """Measure the memory of these processes now; one that has ended counts as nothing."""
    return sum((_one(pid) for pid in pids), Memory())


def _one(pid: int) -> Memory:
    found = dict.fromkeys(FIELDS, 0)
    with contextlib.suppress(OSError):  # the process has ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return Memory(found["Pss"], found["Pss_File"], found["Private_Dirty"])


def tree(pid: int) -> list[int]:
    """Return the pids of a process and of all its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


class Peak:
    """The peak of memory during a block, and the memory before it; `watched` takes the samples."""

    def __init__(self, before: Memory) -> None:
        self.before = before
        self.samples = [before]

    @property
    def total(self) -> int:
        """The largest total of all samples."""
        return max(each.total for each in self.samples)

    @property
    def more(self) -> int:
        """The increase to the peak, including pages of files."""
        return self.total - self.before.total

    @property
    def more_files(self) -> int:
        """The increase in pages of files, such as a store's, up to the sample with the most of them."""
        return max(each.files for each in self.samples) - self.before.files


@contextlib.contextmanager
def watched(pids: Callable[[], Iterable[int]], seconds: float = 0.02) -> Iterator[Peak]:
    """Sample the memory of these processes at intervals during a block."""
    peak, stop = Peak(of(pids())), threading.Event()

    def watch() -> None:
        pause = seconds
        while not stop.wait(pause):
            begin = time.perf_counter()
            peak.samples.append(of(pids()))
            pause = max(seconds, 9 * (time.perf_counter() - begin))  # measuring a large process takes long

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
