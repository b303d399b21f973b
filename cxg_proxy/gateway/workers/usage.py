"""The usage of memory and processors, read from /proc; unknown (None or 0) where there is no /proc.

psutil takes as long for it (14 ms for a worker of 300 MB), would be one more compiled package in each gateway, and does
not know how many processes were ended for lack of memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


def oom_kills() -> int:
    """Return how many processes this machine has ended for lack of memory since it started."""
    return _number(PROC / "vmstat", "oom_kill") or 0


def memory() -> tuple[int, int]:
    """Return the total and the available memory of the machine, in bytes."""
    file = PROC / "meminfo"
    return 1024 * (_number(file, "MemTotal:") or 0), 1024 * (_number(file, "MemAvailable:") or 0)


@dataclass(frozen=True)
class Usage:
    """Memory in bytes, counting a fair share of what other processes share, and processor time so far in seconds."""

    memory: int
    seconds: float


def usage(pid: int) -> Usage | None:
    """Return what a process uses now, None if it has ended."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    # Workers share what they were forked with and the datasets' stores; resident memory would count it for each of
    # them.
    share = _number(PROC / str(pid) / "smaps_rollup", "Pss:")
    # proc(5): fields 14, 15 are the times in user and kernel mode, 24 the resident pages; here the first is field 3.
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return Usage(resident if share is None else 1024 * share, (int(fields[11]) + int(fields[12])) / ticks)


def _number(file: Path, name: str) -> int | None:
    try:
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line[len(name) :].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None
