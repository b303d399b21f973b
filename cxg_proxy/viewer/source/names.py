"""The names of a store's cells: told apart while it is built, and read when somebody asks for them.

A page that opens draws cells without them, and of a million cells they take as long to read as all else.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from . import cell_names, h5ad

try:
    from anndata.io import read_elem
except ImportError:  # before 0.11
    from anndata.experimental import read_elem


class Names:
    """The names in a small file, which is held: they can be read even after the store was removed."""

    def __init__(self, path: Path):
        self._file = open(path, "rb")  # noqa: SIM115 - held as long as this is
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._index: pd.Index | None = None

    def index(self) -> pd.Index:
        """One text for each cell, in order, as anndata gives it; raises one of `reading.ERRORS`."""
        with self._lock:
            if self._index is None:
                with h5py.File(self._file, "r") as file:
                    found, name = read_elem(_place(file["obs"])), axis_name(file["obs"])
                self._index = pd.Index(found, name=name)
            return self._index


def can_wait(table: Any) -> bool:
    """Whether a table is of the kind whose names are text in one place; of older and stranger ones they are not."""
    if not isinstance(table, h5py.Group):
        return False
    kind = table.attrs.get("encoding-type"), table.attrs.get("encoding-version")
    if kind != ("dataframe", "0.2.0") or not isinstance(place := table.get(cell_names.index_name(table)), h5py.Dataset):
        return False
    return place.attrs.get("encoding-type") == "string-array" and place.ndim == 1 and len(place) <= cell_names.CELLS_MAX


def axis_name(table: Any) -> str | None:
    """What anndata calls the index of such a table."""
    name = cell_names.index_name(table)
    return None if name == "_index" else name


def count(table: Any) -> int:
    """How many there are."""
    return len(_place(table))


def differ(path: Path) -> bool:
    """Whether each cell in a small file has a name of its own; it may be said wrongly that one has not."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = np.fromiter(map(hash, cell_names.names(file["obs"])), np.int64)
    except h5ad.ERRORS:
        return False  # who opens the file meets the same, and can say it
    found.sort()
    return not np.any(found[1:] == found[:-1])


def _place(table: Any) -> Any:
    return table[cell_names.index_name(table)]
