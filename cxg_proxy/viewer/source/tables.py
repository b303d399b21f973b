"""A table of an .h5ad file (obs or var): its index, columns and rows, as every version of anndata has written them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

_CATEGORIES = "__categories"  # AnnData 0.7 keeps the labels of categorical columns in a group of this name


def text(value: Any) -> str:
    """Return an attribute of the file as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def index_name(table: Any) -> str:
    """Return the file's name for the index column."""
    if isinstance(table, h5py.Dataset):  # before AnnData 0.7: one dataset with a field for each column
        return str((table.dtype.names or ("_index",))[0])
    return text(table.attrs.get("_index", "_index"))


def columns(table: Any) -> list[str]:
    """Return the names of the columns in the table's order, without the index."""
    if isinstance(table, h5py.Dataset):
        return list(table.dtype.names[1:])
    order = table.attrs.get("column-order")
    if order is None:
        return [name for name in table if name not in (index_name(table), _CATEGORIES)]
    return [text(name) for name in np.asarray(order).ravel()]


def count(table: Any) -> int | None:
    """Return the number of rows, or None if the table is malformed."""
    column = table
    if isinstance(table, h5py.Group):
        column = table.get(index_name(table))
        if isinstance(column, h5py.Group):  # an index of numbers, or of strings with missing values
            column = column.get("values", column.get("codes"))
    return int(column.shape[0]) if isinstance(column, h5py.Dataset) and column.shape else None


def categoricals(table: Any) -> Iterator[tuple[str, Any, Any]]:
    """Iterate over the categorical columns in the table's order: the name, codes and labels of each."""
    if not isinstance(table, h5py.Group):
        return
    older = table.get(_CATEGORIES)
    for name in columns(table):
        column = table.get(name)
        if isinstance(column, h5py.Group) and {"codes", "categories"} <= set(column):
            yield name, column["codes"], column["categories"]
        elif isinstance(older, h5py.Group) and name in older and isinstance(column, h5py.Dataset):
            yield name, column, older[name]
