"""Reads a table of labels that somebody made elsewhere: line by line, so that no file is too large, or too strange."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from cxg_proxy.annotations.tables import UNASSIGNED, Malformed

_LINE_BYTES = 1_000_000
_COLUMNS_MAX = 500
_NAMES_SHOWN = 5
_SHOWN = 60  # letters of a name in a sentence
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_SAVE = "Save the table as “CSV UTF-8”, with commas between the fields"


@dataclass
class Category:
    """One column: for each cell of the dataset the number of its label, 0 where the table has none."""

    name: str
    codes: array[int]
    labels: dict[str, int] = field(default_factory=lambda: {UNASSIGNED: 0})

    def put(self, place: int, label: str) -> None:
        """Give a cell its label; an empty field is none."""
        self.codes[place] = self.labels.setdefault(label or UNASSIGNED, len(self.labels))

    def texts(self) -> Iterator[str]:
        """The label of each cell."""
        known = list(self.labels)
        return (known[code] for code in self.codes)


@dataclass
class Upload:
    """What the table says of the dataset's cells."""

    categories: list[Category] = field(default_factory=list)
    matched: int = 0
    unmatched: int = 0  # rows that name no cell
    unmatched_names: list[str] = field(default_factory=list)  # the first of them

    def __post_init__(self) -> None:
        self._lines: dict[int, int] = {}  # in which line each cell was named

    def read(self, file: BinaryIO, cells: Mapping[str, int]) -> None:
        """Read the table for these cells, each with its place; raises Malformed, and holds what came before then."""
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
        """Make the categories; returns the number of fields of every line."""
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


def shown(name: str) -> str:
    """A name in a sentence."""
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "…")


def _rows(file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its (last) line; neither comments above the table nor empty lines count."""
    lines = _Lines(file)
    rows = csv.reader(iter(lines), strict=True)
    try:
        for row in rows:
            if any(row):
                yield lines.number, row
    except csv.Error as error:
        raise Malformed(f"Line {lines.number} is not CSV: {error}. {_SAVE}") from error


class _Lines:
    """The lines as text, from the first that is no comment."""

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
