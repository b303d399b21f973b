"""Tables in cellxgene's two CSV formats.

Labels have a column per category and a row per cell; gene sets have a row per gene.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from operator import methodcaller
from typing import Any

UNASSIGNED = "unassigned"  # what cellxgene calls a cell without a label
GENE_SETS_HEADER = ("gene_set_name", "gene_set_description", "gene_symbol", "gene_description")

_SPECIAL = re.compile(r'[,"\r\n]')
_BLOCK_ROWS = 10_000  # rows held as lists at once; a million rows would take ten times the memory of their columns
_SHOWN = 60  # characters of a name in an error message


class Malformed(ValueError):
    """The text is not a table of the expected kind; the message is a sentence that says where and why."""


@dataclass(frozen=True)
class LabelTable:
    """Labels by category, each in the order of the cells."""

    index: str = ""  # the name of the cells' column
    cells: tuple[str, ...] = ()
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneSet:
    """A named set of genes, each a symbol and a description."""

    name: str
    description: str = ""
    genes: tuple[tuple[str, str], ...] = ()


def without_comments(content: bytes) -> bytes:
    """Return the table alone. Only lines above it are comments: below, a name or a label may begin with '#'."""
    content = content.removeprefix(codecs.BOM_UTF8)
    while content.startswith(b"#"):
        content = content.partition(b"\n")[2]
    return content


def comments(content: bytes) -> bytes:
    """Return the comment lines above the table."""
    return content[: len(content) - len(without_comments(content))]


def read_labels(content: bytes) -> LabelTable:
    """Read a file of labels, as an empty table if the file is empty; raises Malformed."""
    header, columns = _plain_columns(content) or _all_columns(content)
    _check_unique(header[1:], "category")
    cells, *labels = columns or [[]]
    if len(set(cells)) < len(cells):
        _check_unique(cells, "cell")
    return LabelTable(header[0] if header else "", tuple(cells), dict(zip(header[1:], map(tuple, labels), strict=True)))


def without_columns(content: bytes, names: Collection[str]) -> bytes:
    """Return a file of labels without these categories, empty if it has no others; a malformed file is not changed."""
    try:
        table = read_labels(content) if names else LabelTable()
    except Malformed:
        return content
    columns = {name: labels for name, labels in table.columns.items() if name not in names}
    if len(columns) == len(table.columns):
        return content
    return comments(content) + labels_csv(replace(table, columns=columns)).encode() if columns else b""


def count_labels(content: bytes) -> dict[str, dict[str, int]]:
    """Count the cells of each label of each category, the most frequent label first; raises Malformed."""
    header, parts = _header_and_columns(content)
    _check_unique(header[1:], "category")
    counts: list[Counter[str]] = [Counter() for _ in header[1:]]
    for part in parts:
        for count, fields in zip(counts, part[1:], strict=True):
            count.update(fields)
    return {name: dict(count.most_common()) for name, count in zip(header[1:], counts, strict=True)}


def labels_csv(table: LabelTable) -> str:
    """Return the table as CSV, as cellxgene writes it."""
    text = io.StringIO(newline="")
    header = [table.index, *table.columns]
    # By default the writer quotes neither a text that would look like a comment nor a lone carriage return.
    _writer(text, quoted=header[0].startswith("#") or "\r" in "".join(header)).writerow(header)
    if not table.columns:
        _writer(text).writerows((cell,) for cell in table.cells)
        return text.getvalue()
    # This is three times as fast as the writer: there are many rows, but few labels.
    columns = [_quoted(table.cells, table.cells), *(_quoted(column, set(column)) for column in table.columns.values())]
    rows = "\n".join(map(",".join, zip(*columns, strict=True)))
    return text.getvalue() + rows + ("\n" if table.cells else "")


def aligned(table: LabelTable, cells: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the columns for these cells in their order; a cell without a row is unassigned."""
    if table.cells == cells:
        return table.columns
    rows = {cell: row for row, cell in enumerate(table.cells)}
    order = [rows.get(cell, -1) for cell in cells]
    columns = {name: (*labels, UNASSIGNED) for name, labels in table.columns.items()}
    return {name: tuple([labels[row] for row in order]) for name, labels in columns.items()}


def _quoted(column: tuple[str, ...], unique: Iterable[str]) -> Iterable[str]:
    """Quote each text of a column that needs it."""
    together = "\0".join(unique)
    if not any(letter in together for letter in ',"\r\n'):
        return column
    quoted = {text: '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text for text in unique}
    return map(quoted.__getitem__, column)


def read_gene_sets(content: bytes) -> dict[str, GeneSet]:
    """Read a file of gene sets, by name; raises Malformed."""
    rows = (row for part in _rows(content) for row in part)
    header = next(rows, [])
    if header and tuple(header[: len(GENE_SETS_HEADER)]) != GENE_SETS_HEADER:
        raise Malformed(f"The first line must name the columns: {','.join(GENE_SETS_HEADER)}.")
    descriptions: dict[str, str] = {}
    genes: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row[0].startswith("#") and len(row) < len(GENE_SETS_HEADER):
            continue  # a comment: cellxgene allows them anywhere
        name, description, symbol, record = [*row, "", "", ""][: len(GENE_SETS_HEADER)]
        if not name:
            raise Malformed(f"The gene {_shown(symbol)} is in a set without a name.")
        descriptions[name] = descriptions.get(name) or description
        members = genes.setdefault(name, [])
        if symbol:
            members.append((symbol, record))
    return {name: GeneSet(name, descriptions[name], tuple(members)) for name, members in genes.items()}


def gene_sets_csv(sets: Iterable[GeneSet]) -> str:
    """Return the gene sets as CSV, as cellxgene writes them."""
    text = io.StringIO(newline="")
    _writer(text, "\r\n").writerow(GENE_SETS_HEADER)
    for each in sets:
        for symbol, record in each.genes or (("", ""),):
            _writer(text, "\r\n").writerow((each.name, each.description, symbol, record))
    return text.getvalue()


def _writer(text: io.StringIO, end: str = "\n", *, quoted: bool = False) -> Any:
    return csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)


def _rows(content: bytes) -> Iterator[list[list[str]]]:
    """Yield the rows below the comments in blocks, without empty lines."""
    lines = io.TextIOWrapper(io.BytesIO(without_comments(content)), encoding="utf-8", newline="")
    rows = csv.reader(lines, strict=True)
    try:
        while part := list(islice(rows, _BLOCK_ROWS)):
            yield list(filter(None, part))
    except csv.Error as error:
        raise Malformed(f"Line {rows.line_num} of the table is not CSV: {error}.") from error
    except UnicodeDecodeError as error:
        raise Malformed("It is not text in UTF-8; save it as “CSV UTF-8”.") from error


def _header_and_columns(content: bytes) -> tuple[list[str], Iterator[list[tuple[str, ...]]]]:
    parts = _rows(content)
    first: list[list[str]] = next((part for part in parts if part), [[]])
    header, *rest = first
    return header, (_turned(part, header) for part in chain([rest], parts) if part)


def _all_columns(content: bytes) -> tuple[list[str], list[list[str]]]:
    header, parts = _header_and_columns(content)
    columns: list[list[str]] = [[] for _ in header]
    texts: list[dict[str, str]] = [{} for _ in header]
    for part in parts:
        for column, fields, unique in zip(columns, part, texts, strict=True):
            column.extend(map(unique.setdefault, fields, fields))  # keeps each label in memory only once
    return header, columns


def _plain_columns(content: bytes) -> tuple[list[str], list[list[str]]] | None:
    """Read header and columns as `_all_columns` does, three times as fast.

    Return None for a table with quotes or carriage returns, or with rows of different lengths.
    """
    table = without_comments(content)
    if b'"' in table or b"\r" in table:
        return None
    try:
        text = table.decode().removesuffix("\n")
    except UnicodeDecodeError:
        return None
    lines = text.split("\n")
    width = lines[0].count(",") + 1
    if width == 1 or set(map(methodcaller("count", ","), lines)) != {width - 1}:
        return None
    fields = text.replace("\n", ",").split(",")
    return fields[:width], [fields[width + column :: width] for column in range(width)]


def _turned(part: list[list[str]], header: Sequence[str]) -> list[tuple[str, ...]]:
    """Turn some rows into columns."""
    if set(map(len, part)) != {len(header)}:
        wrong = next(row for row in part if len(row) != len(header))
        raise Malformed(f"The row of {_shown(wrong[0])} has {len(wrong)} fields, but the header has {len(header)}.")
    return list(zip(*part, strict=True))


def _check_unique(names: Sequence[str], noun: str) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise Malformed(f"The {noun} {_shown(twice)} is there twice.")


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "…")
