"""How a worker is started: its command line, what it may know of its surroundings, and where its log goes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxg_proxy import __version__
from cxg_proxy.etags import OPTIONS_BESIDE, digest
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.worker_options import ServeOrder

from .process import Ordinary, Starter

OURS = "cxg-proxy/"  # below a viewer's address, what we add to it
# The file of each by its address, in the order in which the page runs them.
SCRIPTS = {"saves.js": "saves.js", "sets.js": "gene_sets.js", "viewer.js": "strip.js"}

# What to run for a dataset: (dataset, socket) → the command as a list.
WorkerCommand = Callable[[Dataset, Path], Sequence[str]]


@dataclass(frozen=True)
class WorkerEnvironment:
    """Where workers live: `sockets` is a 0700 folder with a short name, `logs` is kept for the administrator."""

    sockets: Path
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    starter: Starter = field(default_factory=Ordinary)

    def log_of(self, dataset: Dataset) -> Path:
        """Each file's own log: two datasets may have the same name in two folders."""
        digest = hashlib.blake2b(os.fsencode(dataset.real), digest_size=4).hexdigest()
        return self.logs / f"{dataset.real.stem[:100]}-{digest}.log"


def clean_environment(environment: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """What a worker may know of its surroundings: no token of a hub, of Jupyter or of Galaxy is among it."""
    names = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
    starts = ("LC_", "MKL_", "NUMBA_", "OMP_", "OPENBLAS_", "XDG_")
    kept = {name: value for name, value in environment.items() if name in names or name.startswith(starts)}
    # cellxgene reads and writes its CSV files in the locale's encoding, which on many hosts is ASCII.
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **more}


def viewer_command(viewer: Sequence[str], order: Callable[[Dataset, Path], ServeOrder]) -> WorkerCommand:
    """The command line of the real worker, `python -m cxg_proxy.viewer serve …`."""
    return lambda dataset, socket: [*viewer, "serve", *order(dataset, socket).to_arguments()]


def with_our_scripts(options: Mapping[str, Any]) -> dict[str, Any]:
    """cellxgene's options for a dataset; whatever scripts they name, ours come first."""
    scripts = options.get("scripts") or []
    ours = [OURS + name for name in SCRIPTS]
    return {**options, "scripts": [*ours, *(scripts if isinstance(scripts, list) else [scripts])]}


def command_and_fingerprint(order: WorkerCommand, dataset: Dataset, socket: Path) -> tuple[Sequence[str], str]:
    """The command for a dataset, and a word for all that decides what its worker will reply, as it is now.

    All but the versions of what is installed where it runs. Looks at the disk.
    """
    command = order(dataset, socket)
    try:
        found = os.stat(f"{dataset.file}{OPTIONS_BESIDE}")
        beside = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    except OSError as reason:
        beside = (reason.errno or 0,) * 4
    told = [word for word in command if word != str(socket)]  # each has a socket of its own
    return command, digest(__version__, dataset.fingerprint, beside, told)
