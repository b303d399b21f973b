"""The table of results: its rows, their goals, and how it is printed and stored."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser import NotServed


@dataclass(frozen=True)
class Figure:
    """One number of a row, with the key under which both sides measure it."""

    key: str
    unit: str
    goal: float | None = None
    label: str = ""
    more_is_better: bool = False

    def reached(self, value: float | None) -> bool | None:
        """Whether a value reaches the goal; None without a value or a goal."""
        if value is None or self.goal is None:
            return None
        return value >= self.goal if self.more_is_better else value <= self.goal

    def said(self, value: float | None) -> str:
        """Format a value for the table."""
        return "–" if value is None else f"{self.label}{number(value)} {self.unit}"

    @property
    def wanted(self) -> str:
        """The goal, formatted for the table."""
        return "–" if self.goal is None else f"{'≥' if self.more_is_better else '≤'} {number(self.goal)} {self.unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figures: tuple[Figure, ...]


@dataclass
class Side:
    """The measurements of one side: medians by key, all single values, and notes, such as why a figure is missing."""

    values: dict[str, float] = field(default_factory=dict)
    single: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, values: list[float], scale: float = 1) -> None:
        """Store single measurements, and their median as the figure."""
        self.single[key] = [value * scale for value in values]
        self.values[key] = statistics.median(self.single[key])

    @contextlib.contextmanager
    def attempt(self, keys: str) -> Iterator[None]:
        """Run a measurement that may not be possible (yet): if it fails, the table notes why, and the run goes on."""
        try:
            yield
        except (NotServed, AssertionError, OSError, http.client.HTTPException, subprocess.SubprocessError) as reason:
            missing = [key for key in keys.split() if key not in self.values]
            why = " ".join(str(reason).split())[-300:] or type(reason).__name__
            self.note(" ".join(missing), f"not measured: {why}")

    def note(self, keys: str, why: str) -> None:
        """Set the note of these figures, whose keys are separated by spaces."""
        for key in keys.split():
            self.notes[key] = why


ROWS = (
    Row(
        "first time ever: click to embedding and metadata · matrix ready",
        (Figure("first", "s", 1.2), Figure("first_ready", "s", 6)),
    ),
    Row("every later time", (Figure("later", "s", 0.4),)),
    Row("  the same, of a gateway that has just started", (Figure("later_cold", "s"),)),
    Row("the 700-cell set, every later time", (Figure("real", "s", 0.3),)),
    Row("one gene", (Figure("gene", "ms", 8),)),
    Row("  the worker asked directly", (Figure("gene_direct", "ms"),)),
    Row("mean of a set of 200 genes", (Figure("set", "ms", 150),)),
    Row(
        "differential expression, {large:,} against {large:,} cells",
        (Figure("large", "s", 0.6), Figure("large_memory", "MB", 150, "+")),
    ),
    Row("  of which pages of files, such as the store's", (Figure("large_pages", "MB", None, "+"),)),
    Row(
        "differential expression, {little:,} against {little:,} cells",
        (Figure("little", "s", 0.4), Figure("little_memory", "MB", None, "+")),
    ),
    Row("private memory of a worker, after all that", (Figure("private", "MB", 130),)),
    Row("{users} users with the same dataset open, total memory", (Figure("users_memory", "GB", 3.0),)),
    Row(
        "gateway between browser and worker: small reply p50 · 300 MB reply",
        (Figure("small", "ms", 2, "+"), Figure("throughput", "MB/s", 400, more_is_better=True)),
    ),
    Row(
        "{users} users each run one differential expression: the last · replies",
        (Figure("users_last", "s", 8), Figure("users_answered", "of {users}", None, more_is_better=True)),
    ),
    Row("  their total memory after that", (Figure("users_memory_after", "GB", 3.0),)),
    Row("second visit of the same browser", (Figure("second_visit", "kB", 50),)),
    Row(
        "1,000,000 cells: open · gene · 500,000 against 500,000 · private memory",
        (
            Figure("million_open", "s", 1),
            Figure("million_gene", "ms", 60),
            Figure("million_large", "s", 5),
            Figure("million_private", "MB", 400),
        ),
    ),
    Row("  not prepared: embedding and metadata", (Figure("million_first", "s", 4),)),
)


def number(value: float) -> str:
    """Format a number with three significant digits, or two below 1; large and whole numbers are given in full."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"


def filled(numbers: dict[str, int]) -> list[Row]:
    """Return the rows with the numbers of this run filled into their texts."""
    rows = []
    for row in ROWS:
        figures = []
        for each in row.figures:
            goal = numbers["users"] if each.key == "users_answered" else each.goal
            unit = each.unit.format(**numbers)
            figures.append(Figure(each.key, unit, goal, each.label, each.more_is_better))
        rows.append(Row(row.what.format(**numbers), tuple(figures)))
    return rows


def lines(rows: list[Row], plain: Side, ours: Side) -> Iterator[str]:
    """Yield the lines of the table as text, with its notes below."""
    marks: dict[str, int] = {}
    table = [["", "plain cellxgene", "cxg-proxy", "to reach", "reached"]]
    for row in rows:
        cells = [" · ".join(each.said(side.values.get(each.key)) for each in row.figures) for side in (plain, ours)]
        for number_, side in enumerate((plain, ours)):
            for why in dict.fromkeys(side.notes[each.key] for each in row.figures if each.key in side.notes):
                cells[number_] += f" [{marks.setdefault(why, len(marks) + 1)}]"
        table.append([row.what, *cells, " · ".join(each.wanted for each in row.figures), judged(row, ours)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        yield "   ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
    for why, mark in marks.items():
        yield f"[{mark}] {why}"


def judged(row: Row, ours: Side) -> str:
    """Return whether a row reaches its goals, in words."""
    found = [each.reached(ours.values.get(each.key)) for each in row.figures if each.goal is not None]
    if not found:
        return "–"
    if False in found:
        return "no"
    return "not measured" if None in found else "yes"


def missed(rows: list[Row], ours: Side, *, run: str = "") -> Iterator[str]:
    """Yield a line for each goal that was not reached, or whose figure could not be measured.

    `run` is the prefix of the keys that are only run by hand, unless this is that run: if they are not measured, they
    do not count as missed.
    """
    for row in rows:
        for each in row.figures:
            value = ours.values.get(each.key)
            if each.goal is None or each.reached(value) or (value is None and run and each.key.startswith(run)):
                continue
            found = "not measured" if value is None else each.said(value)
            yield f"{row.what.strip()}: {found}, to reach {each.wanted}"


def keep(file: Path, rows: list[Row], plain: Side, ours: Side, about: dict[str, Any]) -> None:
    """Write all results as JSON."""
    content = {
        **about,
        "rows": [
            {
                "what": row.what.strip(),
                "reached": judged(row, ours),
                "figures": [
                    {
                        "key": each.key,
                        "unit": each.unit,
                        "plain": plain.values.get(each.key),
                        "ours": ours.values.get(each.key),
                        "to_reach": each.goal,
                        "more_is_better": each.more_is_better,
                        "note": {"plain": plain.notes.get(each.key), "ours": ours.notes.get(each.key)},
                    }
                    for each in row.figures
                ],
            }
            for row in rows
        ],
        "single": {"plain": plain.single, "ours": ours.single},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
