"""How a worker is started: its command line, what it may know of its surroundings, and where its log goes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from cxg_proxy import __version__
from cxg_proxy.errors import Died, NotEnoughMemory, Problem, ViewerMissing
from cxg_proxy.etags import OPTIONS_BESIDE, digest
from cxg_proxy.gateway.library.library import Dataset
from cxg_proxy.steps import Step

from .process import UNKNOWN, Child, Ordinary, Starter, words

OURS = "cxg-proxy/"  # below a viewer's address, what we add to it
# The file of each by its address, in the order in which the page runs them.
SCRIPTS = {"saves.js": "saves.js", "sets.js": "gene_sets.js", "viewer.js": "strip.js"}

LOG_BYTES = 1_000_000
LOG_LINES_WAITING = 10_000
LOG_PATIENCE = 50  # hundredths of a second that the last lines get

# What to run for a dataset: (dataset, socket) → the command as a list.
Command = Callable[[Dataset, Path], Sequence[str]]


@dataclass(frozen=True)
class Place:
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


def real_worker(
    python: str, options: Callable[[Dataset], Mapping[str, Any]], labels: Callable[[Dataset], Path], more: Sequence[str]
) -> Command:
    """The command line of the real worker, `python -m cxg_proxy.viewer serve …`."""

    def command(dataset: Dataset, socket: Path) -> Sequence[str]:
        start = [python, "-m", "cxg_proxy.viewer", "serve", "--socket", str(socket), "--labels", str(labels(dataset))]
        return [*start, "--options", json.dumps(options(dataset)), *more, "--", str(dataset.file)]

    return command


def ordered(order: Command, dataset: Dataset, socket: Path) -> tuple[Sequence[str], str]:
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


async def steps(child: Child) -> AsyncIterator[Step]:
    """What a worker says, step by step, until it ends."""
    async for line in child.lines():
        try:
            step = Step.parse(line)
        except (ValueError, TypeError):
            continue  # not ours: some library wrote to standard output
        yield step


@contextlib.asynccontextmanager
async def logging_to(file: Path, tail: deque[str]) -> AsyncIterator[Callable[[bytes], None]]:
    """What to do with a line of a worker's standard error: keep it in `tail`, and in a rotating file."""
    lines: SimpleQueue[str | None] = SimpleQueue()
    # In a thread, and a daemon: the log lies in the user's home, which may hang.
    writing = threading.Thread(target=_write, args=(file, lines), daemon=True, name="log")
    writing.start()

    def hear(line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        tail.append(text)
        if lines.qsize() < LOG_LINES_WAITING:
            lines.put(text)

    try:
        yield hear
    finally:
        lines.put(None)
        for _ in range(LOG_PATIENCE):
            if writing.is_alive():
                await asyncio.sleep(0.01)


def _write(file: Path, lines: SimpleQueue[str | None]) -> None:
    handler = _log_file(file)
    while (text := lines.get()) is not None:
        if handler is not None:
            handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
    if handler is not None:
        handler.close()


def _log_file(file: Path) -> RotatingFileHandler | None:
    """None where it cannot be written: a full disk must not keep a viewer closed."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=1, errors="replace")
    except (OSError, ValueError):
        return None
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # noqa: ARG005 - as above, while it runs
    return handler


def no_worker(python: str, status: int, log: Sequence[str]) -> Problem:
    """What was started ended before its first word: it is no worker of ours."""
    without = any("No module named" in line and "cxg_proxy" in line for line in log)
    return ViewerMissing(python, detail="it has no cxg-proxy" if without else words(status), log=log)


def death(label: str, status: int, log: Sequence[str], *, for_memory: bool) -> Problem:
    """Why a worker ended, as far as can be known; `for_memory` if the system has ended something for lack of it."""
    if status == -9 and for_memory:
        return NotEnoughMemory(label, detail="the system ended it for lack of memory", log=log)
    if status == -9:
        return Died(label, detail=f"{words(status)}; lack of memory is the usual reason", log=log)
    if status == UNKNOWN and for_memory:
        return Died(label, detail=f"{words(status)}; the system has ended something for lack of memory", log=log)
    return Died(label, detail=words(status), log=log)
