"""The machine that was measured: figures mean nothing without it."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = ("cxg-proxy", "cellxgene", "anndata", "numpy", "numba", "scipy", "h5py", "tornado", "waitress")


def described() -> dict[str, object]:
    """Describe the machine, and the versions of the relevant packages."""
    cores, memory, load = len(os.sched_getaffinity(0)), psutil.virtual_memory(), os.getloadavg()[0]
    versions = {name: metadata.version(name) for name in PACKAGES}
    words = (
        f"{_processor()}, {cores} cores, {memory.total / 1e9:.0f} GB of memory, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, cellxgene {versions['cellxgene']}; "
        f"load {load:.1f} and {memory.available / 1e9:.0f} GB free when it began"
    )
    return {
        "words": words,
        "processor": _processor(),
        "cores": cores,
        "memory": memory.total,
        "load_at_the_beginning": load,
        "versions": versions,
        "when": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
