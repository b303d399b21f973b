"""What a save and a read of labels cost: 100,000 cells, three categories, some cells changed each time.

Prints a table. `python benchmarks/labels.py [SAVES] [FOLDER]`, with 200 saves below the temporary folder if not told.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cxg_proxy import annotations

CELLS = 100_000
CATEGORIES = ("cell type", "quality", "batch remark")
LABELS = ("unassigned", "T cell", "B cell, naive", "NK", "monocyte")
BEGIN = 1_700_000_000.0
LIMIT = 50_000_000
_random = random.Random(0)  # noqa: S311 - the same labels in every run


def main() -> None:
    saves = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    folder = Path(tempfile.mkdtemp(prefix="cxgb-", dir=sys.argv[2] if len(sys.argv) > 2 else None))
    try:
        run(folder / "data", saves)
    finally:
        shutil.rmtree(folder)


def run(where: Path, saves: int) -> None:
    lines = [row(number) for number in range(CELLS)]
    saved, read = [], []
    for number in range(saves):
        for _ in range(50):
            cell = _random.randrange(CELLS)
            lines[cell] = row(cell)
        head = f"# Annotations generated on {number}\n# Dataset: x\nindex,{','.join(CATEGORIES)}\n"
        content = (head + "".join(lines)).encode()
        save = partial(annotations.write, where, annotations.LABELS, content, now=BEGIN + 2.5 * number)
        saved.append(timed(partial(save, history_limit=LIMIT)))
        read.append(timed(lambda: annotations.read(where, annotations.LABELS)))
    listed = [timed(lambda: annotations.versions(where)) for _ in range(20)]
    newest = annotations.versions(where)[0].id
    versions = [timed(lambda: annotations.read_version(where, newest)) for _ in range(20)]
    print(f"{saves} saves of {CELLS:,} cells, {len(content) / 1e6:.1f} MB of CSV each\n")
    print(f"{'':24}{'median':>10}{'p95':>10}")
    for name, times in (
        ("save", saved),
        ("read the file", read),
        ("list the versions", listed),
        ("read a version", versions),
    ):
        print(f"{name:24}{statistics.median(times):>7.1f} ms{statistics.quantiles(times, n=20)[-1]:>7.1f} ms")
    size = sum(path.stat().st_size for path in (where / "history").iterdir() if path.is_file())
    print(
        f"\n{len(annotations.versions(where))} versions, {size / 1e6:.1f} MB (history limited to {LIMIT / 1e6:.0f} MB)"
    )


def row(cell: int) -> str:
    labels = ",".join(f'"{_random.choice(LABELS)}"' for _ in CATEGORIES)
    return f"AAACCTGAGAAACC{cell:06d}-1,{labels}\n"


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
