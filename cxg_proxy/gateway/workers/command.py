"""The command that starts a worker: its arguments, its environment, and the file for its log."""

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

ADDED_PREFIX = "cxg-proxy/"  # below a viewer's address, the prefix of everything that the gateway adds
# The file of each script by its address, in the order in which the page runs them.
SCRIPTS = {"saves.js": "saves.js", "sets.js": "gene_sets.js", "viewer.js": "strip.js"}

# Returns the command to run, as a list, for a dataset and a socket.
WorkerCommand = Callable[[Dataset, Path], Sequence[str]]


@dataclass(frozen=True)
class WorkerEnvironment:
    """The environment of workers: `sockets` is a 0700 folder with a short name, `logs` is for the administrator."""

    sockets: Path
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    starter: Starter = field(default_factory=Ordinary)

    def log_of(self, dataset: Dataset) -> Path:
        """Return the log file of a dataset; datasets of the same name in two folders have separate ones."""
        digest = hashlib.blake2b(os.fsencode(dataset.real), digest_size=4).hexdigest()
        return self.logs / f"{dataset.real.stem[:100]}-{digest}.log"


def clean_environment(environment: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables for a worker: no token of a hub, of Jupyter or of Galaxy is among them."""
    names = {"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"}
    starts = ("LC_", "MKL_", "NUMBA_", "OMP_", "OPENBLAS_", "XDG_")
    inherited = {name: value for name, value in environment.items() if name in names or name.startswith(starts)}
    # cellxgene reads and writes its CSV files in the locale's encoding, which on many hosts is ASCII.
    return {**inherited, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **more}


def viewer_command(viewer: Sequence[str], order: Callable[[Dataset, Path], ServeOrder]) -> WorkerCommand:
    """Return the function that makes the real worker's command, `python -m cxg_proxy.viewer serve …`."""
    return lambda dataset, socket: [*viewer, "serve", *order(dataset, socket).to_arguments()]


def with_gateway_scripts(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return cellxgene's options for a dataset, with the gateway's scripts before any that the options name."""
    scripts = options.get("scripts") or []
    added = [ADDED_PREFIX + name for name in SCRIPTS]
    return {**options, "scripts": [*added, *(scripts if isinstance(scripts, list) else [scripts])]}


def command_and_fingerprint(order: WorkerCommand, dataset: Dataset, socket: Path) -> tuple[Sequence[str], str]:
    """Return the command for a dataset, and a digest of everything that decides its worker's replies now.

    Only the versions of the packages installed in the worker's environment are left out. Accesses the disk.
    """
    command = order(dataset, socket)
    try:
        status = os.stat(f"{dataset.file}{OPTIONS_BESIDE}")
        options_file = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    except OSError as reason:
        options_file = (reason.errno or 0,) * 4
    arguments = [word for word in command if word != str(socket)]  # each worker has a socket of its own
    return command, digest(__version__, dataset.fingerprint, options_file, arguments)
