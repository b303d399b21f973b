"""A file of labels as a table: read with pandas where that is safe, and without what the dataset has itself by now."""

from __future__ import annotations

import io
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

import pandas as pd

from cxg_proxy.annotations.tables import LabelTable, read_labels, without_comments
from cxg_proxy.viewer.source import cell_names


class Table(NamedTuple):
    """A table of labels, and its columns as pandas has read them, if it has."""

    texts: LabelTable
    columns: dict[str, pd.Categorical]


def read(content: bytes) -> Table:
    """The table in a file. Pandas gives all but the odd one, much faster than Python can; raises Malformed."""
    return _quickly(without_comments(content)) or Table(read_labels(content), {})


def _quickly(table: bytes) -> Table | None:
    if b"\r" in table or b"\0" in table:
        return None
    read = partial(pd.read_csv, keep_default_na=False, na_filter=False)
    try:
        index, *names = map(str, read(io.BytesIO(table), header=None, nrows=1, dtype=str).iloc[0])
        numbers = range(1, len(names) + 1)
        types = {0: str, **dict.fromkeys(numbers, "category")}
        rows = read(io.BytesIO(table), header=0, names=[0, *numbers], dtype=types)
    except ValueError:
        return None
    named = tuple(rows[0].to_numpy().tolist())
    # Pandas fills a row that is too short, up to its last field, with nothing.
    ragged = not isinstance(rows.index, pd.RangeIndex) or (names and "" in rows[len(names)].cat.categories)
    if ragged or len(set(names)) < len(names) or len(set(named)) < len(named):
        return None  # reading it the slow way says what is wrong
    columns = {name: rows[number] for number, name in enumerate(names, 1)}
    found = LabelTable(index, named, {name: texts_of(column) for name, column in columns.items()})
    return Table(found, {name: column.array for name, column in columns.items()})


def without_columns(table: Table, own: Collection[str], dataset: str) -> tuple[Table, tuple[str, ...]]:
    """The table without labels that somebody has put into the dataset, and which these are."""
    index, rows, columns = table.texts.index, table.texts.cells, table.texts.columns
    taken = [name for name in columns if name in own]
    ours = cell_names.ours(dataset) if taken else set()
    if foreign := [name for name in taken if name not in ours]:
        raise ValueError(f"the dataset itself has a category named {foreign[0]!r} now; rename or remove that column")
    shown = {name: labels for name, labels in columns.items() if name not in taken}
    return Table(LabelTable(index, rows, shown), table.columns), tuple(taken)


def texts_of(column: pd.Series) -> tuple[str, ...]:
    """The labels of a column, one for each cell."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return tuple(column.cat.categories.astype(str).to_numpy(dtype=object)[column.cat.codes.to_numpy()])
    return tuple(column.astype(str))
