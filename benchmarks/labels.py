"""What labels cost: saves and reads of 100,000 cells and three categories, beside cellxgene's own file writer.

Prints a table. `make bench` makes 300 saves; `python benchmarks/labels.py --saves 10000` takes about half an hour and
shows that the folder stays below its limit. The clock of the saves is simulated, 2.5 s for each, so that thinning
happens. Of many saves, only some are read back.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from server.common.annotations.local_file_csv import AnnotationsLocalFile

from cxg_proxy import annotations
from cxg_proxy.annotations import store
from cxg_proxy.annotations.merge import SeenState
from cxg_proxy.viewer.cellxgene import page_headers
from cxg_proxy.viewer.cellxgene.labels import CellxgeneAnnotations

LABELS = ("unassigned", "T cell", "B cell, naive", "NK", "monocyte", "“odd”")
CATEGORIES = ("cell type", "quality", "batch remark")
BEGIN = 1_700_000_000.0
SAVE_LIMIT, READ_LIMIT = 250.0, 150.0  # milliseconds at the 95th percentile
_random = random.Random(0)  # noqa: S311 - the same labels in every run


class Adaptor:
    """The part of cellxgene's data adaptor that labels need."""

    def __init__(self, cells: int) -> None:
        self.original_obs_index = pd.Index([f"AAACCTGAGAAACC{cell:06d}-1" for cell in range(cells)])

    def get_obs_index(self) -> pd.Index:
        return self.original_obs_index

    def get_obs_columns(self) -> list[str]:
        return ["louvain"]

    def get_last_mod_time(self) -> None:
        return None

    def get_location(self) -> str:
        return "/data/x.h5ad"


def table(adaptor: Adaptor) -> pd.DataFrame:
    """Draw random labels, as cellxgene's page sends them."""
    codes = np.random.default_rng(0)
    count = len(adaptor.original_obs_index)
    columns = {
        name: pd.Categorical.from_codes(codes.integers(0, len(LABELS), count), list(LABELS)) for name in CATEGORIES
    }
    return pd.DataFrame(columns, index=adaptor.original_obs_index.rename("index"))


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


def ours(where: Path, adaptor: Adaptor, saves: int, limit: int) -> tuple[list[float], list[float], int]:
    """Return the times of the saves and of the reads after them, and the largest size of the folder."""
    labels = CellxgeneAnnotations(
        where, "/data/x.h5ad", shown=True, read_only=False, gene_sets_read_only=False, history_limit=limit
    )
    frame, known, largest = table(adaptor), SeenState(), 0
    saved, read = [], []

    def remember(now: SeenState, _: Any) -> None:
        nonlocal known
        known = now

    with mock.patch.object(page_headers, "seen_state") as asked, mock.patch.object(page_headers, "saved", remember):
        for number in range(saves):
            begin = _random.randrange(len(frame) - 200)
            frame.iloc[begin : begin + 200, number % len(CATEGORIES)] = LABELS[number % len(LABELS)]
            asked.return_value = known
            with mock.patch.object(store.time, "time", return_value=BEGIN + 2.5 * number):
                saved.append(timed(lambda: labels.write_labels(frame, adaptor)))
            if not number % max(1, saves // 1000):
                read.append(timed(lambda: labels.read_labels(adaptor)))
            if not number % 50:
                largest = max(largest, size(where))
                progress(number, saves)
    assert (labels.read_labels(adaptor).astype(str).to_numpy() == frame.astype(str).to_numpy()).all()
    return saved, read, max(largest, size(where))


def plain(where: Path, adaptor: Adaptor, saves: int) -> tuple[list[float], list[float]]:
    """Measure cellxgene's own writer; each read uses a new instance, since an old one keeps the labels in memory."""
    where.mkdir()
    file = str(where / "labels.csv")
    writer = AnnotationsLocalFile({"user-annotations": True}, str(where), file, None)
    frame = table(adaptor)
    saved, read = [], []
    for _ in range(saves):
        saved.append(timed(lambda: writer.write_labels(frame, adaptor)))
        fresh = AnnotationsLocalFile({"user-annotations": True}, str(where), file, None)
        read.append(timed(partial(fresh.read_labels, adaptor)))
    return saved, read


def size(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def progress(done: int, of: int) -> None:
    if sys.stderr.isatty() or not done % 500:
        print(f"\r{done} of {of} saves", end="", file=sys.stderr, flush=True)


def line(name: str, times: list[float], limit: float | None = None) -> None:
    median, most = statistics.median(times), max(times)
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{name:28}{median:>9.0f}{p95:>9.0f}{most:>9.0f}{'' if limit is None else f'{limit:.0f}':>9}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--saves", type=int, default=300, help="%(default)s unless told")
    parser.add_argument("--cells", type=int, default=100_000, help="%(default)s unless told")
    parser.add_argument("--history-limit", type=int, default=annotations.LIMIT, help="bytes, %(default)s unless told")
    parser.add_argument("--folder", help="where to save; the temporary folder unless told")
    told = parser.parse_args()
    adaptor = Adaptor(told.cells)
    with tempfile.TemporaryDirectory(prefix="cxgb-", dir=told.folder) as place, contextlib.suppress(KeyboardInterrupt):
        where = Path(place) / "labels"
        saved, read, largest = ours(where, adaptor, told.saves, told.history_limit)
        theirs = plain(Path(place) / "plain", adaptor, min(told.saves, 30))
        listed = [timed(lambda: annotations.versions(where)) for _ in range(20)]
        versions = annotations.versions(where)
        restored = [timed(lambda: annotations.read_version(where, versions[0].id)) for _ in range(20)]
        print(f"\n{told.saves} saves of {told.cells:,} cells and {len(CATEGORIES)} categories, in ms\n")
        print(f"{'':28}{'median':>9}{'p95':>9}{'max':>9}{'limit':>9}")
        line("save", saved, SAVE_LIMIT)
        line("read", read, READ_LIMIT)
        line("save, plain cellxgene", theirs[0])
        line("read, plain cellxgene", theirs[1])
        line("list the versions", listed)
        line("read a version", restored)
        print(f"\n{len(versions)} versions; the folder was never larger than {largest / 1e6:.1f} MB", end="")
        print(f" (limit of the history {told.history_limit / 1e6:.0f} MB)")


if __name__ == "__main__":
    main()
