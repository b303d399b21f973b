"""The job that checks an uploaded table of labels: it reports what the table would change, and makes a file to save."""

import csv
import io
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from cxg_proxy import annotations
from cxg_proxy.annotations.alignment import fit
from cxg_proxy.annotations.tables import UNASSIGNED, LabelTable, Malformed, labels_csv, read_labels
from cxg_proxy.errors import LabelsNotReadable, Problem
from cxg_proxy.viewer import child, options
from cxg_proxy.viewer.source import cell_names, h5ad

from .output_file import Output

_BLOCK_ROWS = 10_000
_STEPS = ("Correct the file, then choose it again.",)

_LINE_BYTES = 1_000_000
_COLUMNS_MAX = 500
_NAMES_SHOWN = 5
_SHOWN = 60  # characters of a name in a message
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_SAVE = "Save the table as “CSV UTF-8”, with commas between the fields"


@dataclass
class Category:
    """One column: the number of each cell's label, int32, in the dataset's order; 0 where the table has none."""

    name: str
    codes: "array[int]"
    labels: dict[str, int] = field(default_factory=lambda: {UNASSIGNED: 0})

    def put(self, place: int, label: str) -> None:
        """Set the label of a cell; an empty field leaves it unassigned."""
        self.codes[place] = self.labels.setdefault(label or UNASSIGNED, len(self.labels))

    def texts(self) -> Iterator[str]:
        """Iterate over the label of each cell."""
        labels = list(self.labels)
        return (labels[code] for code in self.codes)


@dataclass
class Upload:
    """The labels that an uploaded table gives to the dataset's cells."""

    categories: list[Category] = field(default_factory=list)
    matched: int = 0
    unmatched: int = 0  # rows that name no cell
    unmatched_names: list[str] = field(default_factory=list)  # of the first of these rows

    def __post_init__(self) -> None:
        self._lines: dict[int, int] = {}  # the line that named each cell

    def read(self, file: BinaryIO, cells: Mapping[str, int]) -> None:
        """Read the table; `cells` gives the place of each cell name.

        Raises Malformed, after which the object holds what was read before the error.
        """
        rows = _rows(file)
        header = self._header(next(rows, None), len(cells))
        for line, row in rows:
            if len(row) != header:
                raise Malformed(
                    f"Line {line} has {len(row)} fields, but the first line has {header}; correct one of them"
                )
            place = cells.get(row[0])
            if place is None:
                self._unmatched(row[0])
                continue
            if (before := self._lines.setdefault(place, line)) != line:
                raise Malformed(f"The cell {shown(row[0])} is in line {before} and in line {line}; remove one of them")
            self.matched += 1
            for category, label in zip(self.categories, row[1:], strict=True):
                category.put(place, label)

    def _unmatched(self, name: str) -> None:
        self.unmatched += 1
        if len(self.unmatched_names) < _NAMES_SHOWN:
            self.unmatched_names.append(name[: 2 * _SHOWN])

    def _header(self, first: tuple[int, list[str]] | None, cells: int) -> int:
        """Create the categories from the first line, and return the number of fields that every line must have."""
        if first is None:
            raise Malformed("It holds no table; the first line must name the columns: the cells, then the categories")
        line, names = first
        if len(names) < 2:
            raise Malformed(f"Line {line} has one column only; there must be labels beside the cells. {_SAVE}")
        if len(names) > _COLUMNS_MAX:
            raise Malformed(f"Line {line} has {len(names)} columns; remove some, {_COLUMNS_MAX} are the most")
        for number, name in enumerate(names[1:], start=2):
            if not name.strip():
                raise Malformed(f"In line {line}, column {number} has no name; give it one or remove the column")
            if name in names[1 : number - 1]:
                raise Malformed(f"In line {line}, two columns are named {shown(name)}; rename or remove one of them")
        self.categories = [Category(name, array("i", bytes(4 * cells))) for name in names[1:]]
        return len(names)


@dataclass(frozen=True)
class CheckOrder(child.JobOrder):
    """A `JobOrder` for a child that also reads a table, at the path `input`."""

    input: str


def check(order: CheckOrder) -> int:
    """Print one line of JSON, and write the file unless there is a problem, which the line then reports.

    Return the exit status, 0 in either case.
    """
    say = child.channel()
    output = Output(order.output)
    child.end_with_parent(output.abandon)
    child.log_to_stderr()
    result = _Result()
    problem = child.outcome(lambda: _make(order, output, result), order.dataset)
    if problem is not None:
        output.remove()
    say(json.dumps(result.to_json(problem)).encode() + b"\n")
    return 0


class _Result:
    """The result of the check as far as it is known."""

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


def _make(order: CheckOrder, output: Output, result: _Result) -> None:
    dataset = os.path.abspath(order.dataset)
    h5ad.look(dataset)
    try:
        cells = cell_names.read(dataset, options.gather(dataset, order.options))
    except h5ad.ERRORS as error:
        raise h5ad.open_problem(dataset, error) from error
    result.cells = len(cells.names)
    try:
        _read(order.input, cells, result.upload)
        result.columns = _compared(result.upload.categories, _saved(order.labels, cells.names))
        _write(output, cells, result.upload.categories)
    except Malformed as error:
        raise LabelsNotReadable(detail=str(error), steps=_STEPS) from error
    except OSError as error:
        raise output.problem(error) or error from error


def _read(path: str, cells: cell_names.Cells, upload: Upload) -> None:
    places = {name: place for place, name in enumerate(cells.names)}
    with open(path, "rb") as file:
        upload.read(file, places)
    overlapping = [category.name for category in upload.categories if category.name in cells.own]
    if overlapping:  # cellxgene's wording
        raise Malformed(f"Labels file may not contain column names which overlap with h5ad obs columns {overlapping}")
    if not upload.matched:
        raise Malformed(_no_cell(cells.names, upload))


def _no_cell(names: list[str], upload: Upload) -> str:
    if not upload.unmatched:
        return "It has a first line, but no cells below it"
    row_name, cell_name = shown(upload.unmatched_names[0]), shown(names[0] if names else "")
    return (
        f"No row names a cell of this dataset: the first column begins with {row_name}, "
        f"the dataset's cells with {cell_name}; put the names of the cells into the first column"
    )


def _saved(where: Path, names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the saved labels, fitted to the dataset's cells; a file that cannot be read has none to lose."""
    try:
        return fit(read_labels(annotations.read(where, annotations.LABELS) or b""), names).columns
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
    """Count the cells whose label would change; in a new category all cells were unassigned."""
    if saved is None:
        return len(category.codes) - category.codes.count(0)
    return sum(label != before for label, before in zip(category.texts(), saved, strict=True))


def _write(output: Output, cells: cell_names.Cells, categories: list[Category]) -> None:
    """Write the table in cellxgene's format, some rows at a time."""
    index = cells.index or "index"
    while any(index == category.name for category in categories):
        index += "_"
    text = labels_csv(LabelTable(index, (), {category.name: () for category in categories}))
    rows = zip(cells.names, *(category.texts() for category in categories), strict=True)
    while text:
        output.write(text.encode(errors="surrogateescape"))
        text = _csv(rows)
    output.finish()


def _csv(rows: Iterator[tuple[str, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(islice(rows, _BLOCK_ROWS))
    return text.getvalue()


def shown(name: str) -> str:
    """Return a name, quoted and shortened, for a message."""
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "…")


def _rows(file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Iterate over the rows with the number of their (last) line, skipping comments above the table and empty lines.

    Raises Malformed for text that is not CSV.
    """
    lines = _Lines(file)
    rows = csv.reader(iter(lines), strict=True)
    try:
        for row in rows:
            if any(row):
                yield lines.number, row
    except csv.Error as error:
        raise Malformed(f"Line {lines.number} is not CSV: {error}. {_SAVE}") from error


class _Lines:
    """The lines of a file as text, from the first that is not a comment; raises Malformed for other content."""

    def __init__(self, file: BinaryIO):
        self.number = 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        above = True
        while line := self._file.readline(_LINE_BYTES):
            self.number += 1
            if self.number == 1:
                line = self._without_mark(line)
            above = above and line.startswith(b"#")
            if not above:
                yield self._text(line)

    def _without_mark(self, line: bytes) -> bytes:
        if line[:2] in _BOMS:
            raise Malformed(f"It is text in {_BOMS[line[:2]]}. {_SAVE}")
        return line.removeprefix(b"\xef\xbb\xbf")

    def _text(self, line: bytes) -> str:
        if len(line) == _LINE_BYTES:
            raise Malformed(f"Line {self.number} is longer than {_LINE_BYTES // 1000} kB, so this is no table. {_SAVE}")
        if b"\0" in line:
            raise Malformed(f"Line {self.number} holds a NUL character, so this is no text. {_SAVE}")
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"Line {self.number} is not text in UTF-8. {_SAVE}") from error
