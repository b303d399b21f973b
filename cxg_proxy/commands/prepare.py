"""The command `cxg-proxy prepare`: it prepares datasets in advance, usually for everybody who may read them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from cxg_proxy import formatting
from cxg_proxy.errors import DatasetNotFound, Problem
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.scan import Scan
from cxg_proxy.gateway.workers.report import LOG_LINES, reporting
from cxg_proxy.steps import Phase
from cxg_proxy.worker_options import BUILD_MEMORY_BYTES

FAILED, STOPPED = 1, 130  # exit statuses

_MAX_NAME_LENGTH = 60  # characters of a name in the table
_DESCRIPTION = """Prepare datasets (.h5ad), so that they open at once and every viewer of a machine shares their memory.

A viewer prepares the gene expression of a dataset at its first visit by itself, for its user alone. This command does
it for everybody, before: in a folder that gateways look into first when they are started with the same
--shared-cache. Who may read a dataset may then read what was prepared of it, and nobody else. Run it as root or as
the owner of the datasets: what others have prepared is not believed."""
_EPILOG = """examples:
    cxg-proxy prepare --shared-cache /srv/cxg-proxy /srv/atlas     # all below a folder; again at any time, or by cron
    cxg-proxy prepare --shared-cache /srv/cxg-proxy pbmc.h5ad --layer log1p
    cxg-proxy prepare pbmc.h5ad                                    # for oneself
    cxg-proxy --shared-cache /srv/cxg-proxy --library atlas=/srv/atlas

What is there already is left as it is; what was prepared of a file that has changed is replaced. It needs about as
much room as the files themselves, more where they are compressed. The exit status is 0 when all are there in the
end, 1 when one is not, 2 when the command was typed wrongly.
"""

_MAX_ENTRIES = 10_000_000  # files and folders that are scanned at most


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may not support every character of a name
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parsed = _parser().parse_args(arguments)
    try:
        wanted = find_datasets(parsed.paths)
    except Problem as problem:
        return _fail(f"{formatting.printable(problem.sentence)} {problem.steps[0]}")
    if not wanted:
        return _fail(f"there are no .h5ad files in {formatting.printable(', '.join(map(str, parsed.paths)))}")
    outcomes: dict[Wanted, Outcome] = {}
    stopped = asyncio.run(_prepare(parsed, wanted, outcomes))
    for line in _table(outcomes):
        sys.stdout.write(f"{line}\n")
    if stopped:
        sys.stdout.write("Stopped. What was prepared stays.\n")
        return STOPPED
    return FAILED if any(outcome.problem for outcome in outcomes.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cxg-proxy prepare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("paths", metavar="FILE|DIR", nargs="+", type=Path, help="datasets, or folders of datasets")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--shared-cache", metavar="DIR", type=Path, help="prepare for everybody, in this folder")
    usual = Path(platformdirs.user_cache_dir("cxg-proxy"))
    where.add_argument("--cache", metavar="DIR", type=Path, default=usual, help="the gateway's --cache (%(default)s)")
    parser.add_argument("--layer", metavar="NAME", help="show this layer in the place of X; else what the file beside "
                        "the dataset says, or X")  # fmt: skip
    parser.add_argument("--build-memory", metavar="BYTES", type=_positive, default=BUILD_MEMORY_BYTES,
                        help="memory that each may take, about (%(default)s)")  # fmt: skip
    parser.add_argument("--jobs", metavar="N", type=_positive, default=1, help="how many at once (%(default)s)")
    parser.add_argument("--viewer-python", metavar="PYTHON", default=sys.executable,
                        help="the gateway's --viewer-python (%(default)s)")  # fmt: skip
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _command(parsed: argparse.Namespace) -> list[str]:
    python = parsed.viewer_python
    python = os.path.abspath(python) if "/" in python else shutil.which(python) or python
    command = [python, "-m", "cxg_proxy.viewer", "build", "--build-memory", str(parsed.build_memory)]
    if parsed.shared_cache:
        command += ["--for-others", f"--cache={parsed.shared_cache.expanduser().absolute()}"]
    else:
        command += [f"--cache={parsed.cache.expanduser().absolute()}"]
    return [*command, f"--layer={parsed.layer}" if parsed.layer else "--as-shown"]


# --- the work ------------------------------------------------------------------------------------------------------


async def _prepare(parsed: argparse.Namespace, wanted: Sequence[Wanted], outcomes: dict[Wanted, Outcome]) -> bool:
    """Prepare all datasets; returns whether a signal stopped it."""
    task = asyncio.ensure_future(_all(parsed, wanted, outcomes))
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(name, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def _all(parsed: argparse.Namespace, wanted: Sequence[Wanted], outcomes: dict[Wanted, Outcome]) -> None:
    # An empty folder, since Python looks for modules in the current folder, and a folder of datasets may hold anything.
    with tempfile.TemporaryDirectory(prefix="cxg-proxy-") as cwd, contextlib.closing(_shown(wanted)) as shown:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
        preparing = Preparing(_command(parsed), Path(cwd), environment, parsed.jobs)

        async def one(each: Wanted) -> None:
            outcomes[each] = await preparing.one(each, lambda: shown.begin(each), lambda done: shown.update(each, done))
            shown.end(each, outcomes[each])

        tasks = [asyncio.ensure_future(one(each)) for each in wanted]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


# --- progress and results ------------------------------------------------------------------------------------------


def _shown(wanted: Sequence[Wanted]) -> Any:
    return _Bar(wanted) if sys.stderr.isatty() else _Lines(wanted)


class _Lines:
    """Progress as one line for each dataset, where the output is not a terminal."""

    def __init__(self, wanted: Sequence[Wanted]):
        self._count, self._done = len(wanted), 0

    def begin(self, each: Wanted) -> None:
        """Ignore the start of a dataset."""

    def update(self, each: Wanted, done: float) -> None:
        """Ignore the share that is done."""

    def end(self, each: Wanted, outcome: Outcome) -> None:
        """Write the outcome of a dataset."""
        self._done += 1
        sys.stderr.write(f"{self._done} of {self._count}: {formatting.printable(each.name)}: {_status(outcome)}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Do nothing at the end."""


class _Bar:
    """Progress as one bar over the bytes of all datasets."""

    def __init__(self, wanted: Sequence[Wanted]):
        from tqdm import tqdm  # noqa: PLC0415 - only a terminal needs it

        self._sizes = {each: max(1, each.bytes) for each in wanted}
        self._shares = dict.fromkeys(wanted, 0.0)
        self._bar = tqdm(total=sum(self._sizes.values()), unit="B", unit_scale=True, dynamic_ncols=True, leave=False)

    def begin(self, each: Wanted) -> None:
        """Show the name of the dataset that is prepared now."""
        self._bar.set_description(_short(each.name, 30))

    def update(self, each: Wanted, done: float) -> None:
        """Advance the bar to the share of the dataset that is done."""
        if done > self._shares[each]:
            self._bar.update(round((done - self._shares[each]) * self._sizes[each]))
            self._shares[each] = done

    def end(self, each: Wanted, outcome: Outcome) -> None:
        """Count the dataset as done, and write its problem if there is one."""
        self.update(each, 1.0)
        if outcome.problem is not None:
            self._bar.write(f"{formatting.printable(each.name)}: {_status(outcome)}", file=sys.stderr)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def _status(outcome: Outcome) -> str:
    if outcome.problem is not None:
        return f"failed: {formatting.printable(outcome.problem.sentence)}"
    return "made" if outcome.made else "was there"


def _table(outcomes: dict[Wanted, Outcome]) -> list[str]:
    """Return a heading, a line for each dataset, and a line with the totals."""
    rows = [("dataset", "cells × genes", "size", "time", "")]
    for each, outcome in outcomes.items():
        succeeded = outcome.problem is None
        shape = f"{outcome.cells:,} × {outcome.genes:,}" if succeeded else ""
        size = formatting.size(outcome.bytes).replace("\u00a0", " ") if succeeded else ""
        rows.append((_short(each.name, _MAX_NAME_LENGTH), shape, size, f"{outcome.seconds:.1f} s", _status(outcome)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [_row(row, widths) for row in rows]
    failed = sum(outcome.problem is not None for outcome in outcomes.values())
    made = sum(outcome.made for outcome in outcomes.values())
    return [*lines, f"{made} made, {len(outcomes) - made - failed} there before, {failed} failed."]


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = row[:4]
    cells = [name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))]
    return "  ".join([*cells, row[4]]).rstrip()


def _short(name: str, most: int) -> str:
    """Return a name on one line; a long one is cut at its start, since the end says more."""
    clean = formatting.printable(name)
    return clean if len(clean) <= most else f"…{clean[1 - most :]}"


def _fail(text: str) -> int:
    sys.stderr.write(f"cxg-proxy prepare: {text}\n")
    return FAILED


@dataclass(frozen=True)
class Wanted:
    """A dataset to prepare, with the name that the user knows it by."""

    file: Path
    name: str
    bytes: int


@dataclass(frozen=True)
class Outcome:
    """The outcome for one dataset; sizes are in bytes. Without a problem, its store exists."""

    seconds: float
    made: bool = False
    cells: int = 0
    genes: int = 0
    bytes: int = 0
    problem: Problem | None = None


def find_datasets(paths: Iterable[Path]) -> list[Wanted]:
    """Return the named files and all .h5ad files below the named folders, each once; raises DatasetNotFound."""
    wanted: dict[str, Wanted] = {}
    for path in paths:
        for file, name in _below(path) if path.is_dir() else [(path.absolute(), str(path))]:
            with contextlib.suppress(OSError):  # the error is reported when the file is opened
                size = file.stat().st_size
                wanted.setdefault(os.path.realpath(file), Wanted(file, name, size))
                continue
            wanted.setdefault(str(file), Wanted(file, name, 0))
    return list(wanted.values())


def _below(folder: Path) -> list[tuple[Path, str]]:
    library = Library({"": folder.absolute()})
    scan = Scan(library, _MAX_ENTRIES)
    scan.run(time.time_ns())
    if scan.problems:
        raise DatasetNotFound(str(folder), detail=scan.problems[""])
    return [(each.file, os.path.join(folder, each.path)) for each in scan.datasets]


class Preparing:
    """The preparation of stores: runs `command` with the dataset appended, in the folder `cwd`, `jobs` at a time."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], jobs: int):
        self._command, self._cwd, self._environment = list(command), cwd, environment
        self._turns = asyncio.Semaphore(jobs)

    async def one(self, wanted: Wanted, begin: Callable[[], None], on_progress: Callable[[float], None]) -> Outcome:
        """Make the store of one dataset once a job is free.

        Calls `begin` when that is so, and `on_progress` with each share done.
        """
        async with self._turns:
            begin()
            started = time.monotonic()
            try:
                result = await self._make(wanted, on_progress)
            except Problem as problem:
                problem.name_in_steps("FILE", str(wanted.file))
                return Outcome(time.monotonic() - started, problem=problem)
            cells, genes, size = (int(result.get(name, 0)) for name in ("cells", "genes", "bytes"))
            return Outcome(time.monotonic() - started, bool(result.get("made")), cells, genes, size)

    async def _make(self, wanted: Wanted, on_progress: Callable[[float], None]) -> dict[str, Any]:
        command = [*self._command, "--", str(wanted.file)]
        log: deque[str] = deque(maxlen=LOG_LINES)
        async with reporting(command, wanted.name, log, cwd=self._cwd, environment=self._environment) as report:
            async for step in report.steps():
                if step.phase is Phase.LOADING and step.done is not None:
                    on_progress(step.done)
            if not report.ready:
                raise await report.death()
            await report.child.wait()
        return report.result
