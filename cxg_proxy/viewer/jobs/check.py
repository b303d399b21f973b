"""Says what a table of labels that somebody uploads would do, and makes of it a file that can be saved."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cxg_proxy import annotations as kept
from cxg_proxy.annotations.alignment import fit
from cxg_proxy.annotations.tables import LabelTable, Malformed, labels_csv, read_labels
from cxg_proxy.errors import LabelsNotReadable, Problem
from cxg_proxy.viewer import child, options
from cxg_proxy.viewer.source import cell_names, h5ad

from .output_file import Output
from .upload import Category, Upload, shown

_AT_ONCE = 10_000  # rows
_STEPS = ("Correct the file, then choose it again.",)


@dataclass(frozen=True)
class Order(child.Order):
    """The same for a child that reads a table, too."""

    input: str


def check(order: Order) -> int:
    """Print one line of JSON, and make the file unless there is a problem, which is an answer too."""
    say = child.channel()
    output = Output(order.output)
    child.on_leash(output.abandon)
    child.log_to_stderr()
    found = _Found()
    problem = child.outcome(lambda: _make(order, output, found), order.dataset)
    if problem is not None:
        output.remove()
    say(json.dumps(found.to_json(problem)).encode() + b"\n")
    return 0


class _Found:
    """What is known so far."""

    def __init__(self) -> None:
        self.upload = Upload()
        self.cells = 0
        self.columns: list[dict[str, Any]] = []

    def to_json(self, problem: Problem | None) -> dict[str, Any]:
        return {
            "matched": self.upload.matched,
            "unmatched": self.upload.unmatched,
            "missing": self.cells - self.upload.matched,
            "cells": self.cells,
            "unmatched_names": self.upload.unmatched_names,
            "columns": self.columns,
            "problem": None if problem is None else problem.to_json(),
        }


def _make(order: Order, output: Output, found: _Found) -> None:
    dataset = os.path.abspath(order.dataset)
    h5ad.look(dataset)
    try:
        known = cell_names.read(dataset, options.gather(dataset, order.options))
    except h5ad.ERRORS as error:
        raise h5ad.open_problem(dataset, error) from error
    found.cells = len(known.names)
    try:
        _read(order.input, known, found.upload)
        found.columns = _compared(found.upload.categories, _saved(order.labels, known.names))
        _write(output, known, found.upload.categories)
    except Malformed as error:
        raise LabelsNotReadable(detail=str(error), steps=_STEPS) from error
    except OSError as error:
        raise output.problem(error) or error from error


def _read(path: str, known: cell_names.Cells, upload: Upload) -> None:
    places = {name: place for place, name in enumerate(known.names)}
    with open(path, "rb") as file:
        upload.read(file, places)
    own = [category.name for category in upload.categories if category.name in known.own]
    if own:  # in cellxgene's own words
        raise Malformed(f"Labels file may not contain column names which overlap with h5ad obs columns {own}")
    if not upload.matched:
        raise Malformed(_no_cell(known.names, upload))


def _no_cell(names: list[str], upload: Upload) -> str:
    if not upload.unmatched:
        return "It has a first line, but no cells below it"
    theirs, ours = shown(upload.unmatched_names[0]), shown(names[0] if names else "")
    return (
        f"No row names a cell of this dataset: the first column begins with {theirs}, the dataset's cells with {ours}; "
        "put the names of the cells into the first column"
    )


def _saved(where: Path, names: list[str]) -> dict[str, tuple[str, ...]]:
    """The labels as they are now; a file that cannot be read has none to lose."""
    try:
        return fit(read_labels(kept.read(where, kept.LABELS) or b""), names).columns
    except (Malformed, OSError):
        return {}


def _compared(categories: list[Category], saved: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "labels": len(set(each.codes) - {0}),
            "new": each.name not in saved,
            "changed": _changed(each, saved.get(each.name)),
        }
        for each in categories
    ]


def _changed(category: Category, saved: tuple[str, ...] | None) -> int:
    """Cells whose label is another one afterwards; a new category's were all unassigned."""
    if saved is None:
        return len(category.codes) - category.codes.count(0)
    return sum(label != before for label, before in zip(category.texts(), saved, strict=True))


def _write(output: Output, known: cell_names.Cells, categories: list[Category]) -> None:
    """The table as cellxgene writes it, some rows at a time."""
    index = known.index or "index"
    while any(index == category.name for category in categories):
        index += "_"
    text = labels_csv(LabelTable(index, (), {category.name: () for category in categories}))
    rows = zip(known.names, *(category.texts() for category in categories), strict=True)
    while text:
        output.write(text.encode(errors="surrogateescape"))
        text = _csv(rows)
    output.finish()


def _csv(rows: Iterator[tuple[str, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(islice(rows, _AT_ONCE))
    return text.getvalue()
