"""The table of the README: opening and using a dataset with plain `cellxgene launch` and with cxg-proxy, in one run.

`make bench` runs it (25 minutes with the two before it), `make bench-million` the row of a million cells, and with
`--quick` it takes two minutes on a smaller dataset. README.md beside this file says what each row means. On the full
size it ends with what was missed of what is to be reached, and with status 1 if anything was.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import data
import machine
import million
import picture
import sides
import table
from visits import Plan

BUILD = Path(__file__).parent.parent / "build" / "bench"
QUICK = data.Size(20_000, 5_000)
TINY = data.Size(2_000, 1_000)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, store and draw; returns 1 if any goal is missed."""
    told = _parser().parse_args(words)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # so that both sides find compiled byte code
    with tempfile.TemporaryDirectory(prefix="cxg-bench-", dir=told.folder) as name:
        plan = _plan(told, Path(name))
        about = {"machine": machine.described(), **_said(plan)}
        both = million if told.million else sides
        ours, plain = both.our_side(plan), both.plain_side(plan)
        about["load_at_the_end"] = os.getloadavg()[0]
    if not told.million:
        add_million(plain, ours, told.build / "million.json")
    rows = [row for row in table.filled(plan.numbers) if _belongs(row, million_only=told.million)]
    print(f"\n{about['machine']['words']}\n{about['dataset']}; {about['conditions']}\n{about['medians']}\n")
    for line in table.lines(rows, plain, ours):
        print(line)
    if not about["full"]:
        print("What is to be reached is meant for the full size, not for this smaller dataset.")
    file = told.build / ("million.json" if told.million else "viewer.json")
    table.keep(file, rows, plain, ours, about)
    print(f"\nkept in {file}")
    if told.picture:
        picture.draw(file, told.picture)
    missed = list(table.missed(rows, ours, run="" if told.million else "million")) if about["full"] else []
    for line in missed:
        print(f"MISSED  {line}")
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller dataset, each opening once: two minutes")
    parser.add_argument("--million", action="store_true", help="only the row of a million cells")
    parser.add_argument("--cells", type=int, help="another number of cells")
    parser.add_argument("--genes", type=int, help="another number of genes")
    parser.add_argument("--starts", type=int, help="how often each opening is measured")
    parser.add_argument("--repeats", type=int, default=5, help="how often each exchange (%(default)s)")
    parser.add_argument("--users", type=int, help="how many users there are at once")
    parser.add_argument("--folder", type=Path, help="where stores and homes are for a while; the temporary folder")
    parser.add_argument("--build", type=Path, default=BUILD, help="where the JSON is kept")
    parser.add_argument("--picture", type=Path, help="draw the bars into this .svg or .png")
    return parser


def _plan(told: argparse.Namespace, folder: Path) -> Plan:
    size = data.MILLION if told.million else QUICK if told.quick else data.ATLAS
    size = data.Size(told.cells or size.cells, told.genes or size.genes)
    return Plan(
        data.generated(size),
        data.real(),
        data.generated(TINY),
        folder,
        large=size.cells // 2,
        little=min(1000, size.cells // 4),
        starts=told.starts or (1 if told.quick else 3 if told.million else 5),
        repeats=told.repeats,
        users=told.users or (4 if told.quick else 10),
    )


def _said(plan: Plan) -> dict[str, object]:
    size, (cells, genes) = plan.dataset.stat().st_size / 1e9, data.shape_of(plan.dataset)
    return {
        "dataset": f"{cells:,} cells × {genes:,} genes, {size:.2f} GB",
        "full": plan.dataset.name in (data.ATLAS.name, data.MILLION.name),
        "conditions": "byte code and numba's kernels compiled before, the file read before each start, for both sides",
        "medians": f"medians of {plan.starts} openings and of {plan.repeats} exchanges (one, if it takes over 10 s; "
        f"{4 * plan.repeats} genes)",
        "plan": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(plan).items()},
    }


def _belongs(row: table.Row, *, million_only: bool) -> bool:
    return not million_only or row.figures[0].key.startswith("million")


def add_million(plain: table.Side, ours: table.Side, file: Path) -> None:
    """Add the row of a million cells from its last run."""
    keys = [figure.key for row in table.ROWS for figure in row.figures if figure.key.startswith("million")]
    if not file.exists():
        ours.note(" ".join(keys), "not run: `make bench-million` does, in half an hour")
        return
    content = json.loads(file.read_text())
    ours.note(keys[0], f"run on its own, {content['machine']['when']}: {content['machine']['words']}")
    for row in content["rows"]:
        for figure in row["figures"]:
            for side, name in ((plain, "plain"), (ours, "ours")):
                if figure[name] is not None:
                    side.values[figure["key"]] = figure[name]
                if figure["note"][name]:
                    side.notes[figure["key"]] = figure["note"][name]


if __name__ == "__main__":
    raise SystemExit(main())
