"""The cell names of a dataset, read as text, block by block, from a file of any AnnData version."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from cxg_proxy.annotations import display_name, identifiers_digest
from cxg_proxy.annotations.alignment import CATEGORIES
from cxg_proxy.errors import BadOptions

from . import h5ad, tables

if TYPE_CHECKING:
    import pandas as pd

CELLS_MAX = 20_000_000  # more than cellxgene can hold of any file; a damaged or hostile file may claim any number
_BLOCK_BYTES = 4 * 1024**2
_BLOCK_ROWS = 65_536
_SHOWN = 12  # column names listed in an error message
_OURS_MAX = 10_000
_MISSING = "<NA>"  # how pandas writes a missing value among text or integers


def identifiers(path: str) -> str | None:
    """Return the digest that recognises these cells in another file, or None if their names cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return digest(file)
    except h5ad.ERRORS:
        return None


def digest(file: Any, *, seconds: float = float("inf")) -> str | None:
    """Return the digest of an open file's cell names; None also if that takes longer than `seconds`."""
    try:
        return identifiers_digest(_in_time(names(file["obs"]), time.monotonic() + seconds))
    except (*h5ad.ERRORS, TimeoutError):
        return None


@dataclass(frozen=True)
class Cells:
    """The cells that labels are matched to."""

    names: list[str]
    own: list[str]  # the columns of the dataset's obs
    index: str  # the name of the column that holds the cell names, "" if it has none


def read(dataset: str, options: Mapping[str, Any]) -> Cells:
    """Read the cells under the names that the viewer uses for them.

    The option `obs_names` selects the column of the names. Raises BadOptions if obs has no such column, or one of
    `h5ad.ERRORS`.
    """
    wanted = options.get("obs_names")
    with h5py.File(dataset, "r", locking=False) as file:
        obs = file["obs"]
        own = tables.columns(obs)
        if wanted == tables.index_name(obs) and wanted not in own:
            wanted = None
        if wanted is not None and wanted not in own:
            known = ", ".join(own[:_SHOWN]) + (" and others" if len(own) > _SHOWN else "")
            detail = f"obs_names is {wanted!r}, but obs has {known or 'no columns'}"
            raise BadOptions(display_name(dataset), detail=detail)
        return Cells(list(names(obs, wanted)), own, wanted or tables.index_name(obs).removeprefix("_"))


def names(obs: Any, column: str | None = None) -> Iterator[str]:
    """Iterate over the cell names in order, from the index or from another column.

    They equal `adata.obs_names` after reading the file: numbers become text as pandas writes them. Raises one of
    `h5ad.ERRORS`.
    """
    values = _column(obs, column)
    if len(values.shape or ()) != 1:
        raise ValueError("its names are not a column")
    if values.shape[0] > CELLS_MAX:
        raise ValueError(f"it holds more than {CELLS_MAX} cells")
    if isinstance(values, _Coded):
        return values.texts()
    return _texts(values)


def label_columns(path: str) -> set[str]:
    """Return the obs columns that a user copied into the file from labels made in the viewer.

    The file lists them in `uns`; the set is empty if it lists none or cannot be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return set(_decoded(file["uns"][CATEGORIES][:_OURS_MAX]))
    except h5ad.ERRORS:
        return set()


def _in_time(cells: Iterator[str], deadline: float) -> Iterator[str]:
    for number, cell in enumerate(cells):
        if not number % _BLOCK_ROWS and time.monotonic() > deadline:
            raise TimeoutError
        yield cell


def _column(obs: Any, name: str | None) -> Any:
    """Return the column's values as an object with a shape that can be sliced."""
    if isinstance(obs, h5py.Dataset):  # before AnnData 0.7: one table with a field for each column
        return _Field(obs, name or tables.index_name(obs))
    name = name or tables.index_name(obs)
    column, older = obs[name], obs.get("__categories")
    if isinstance(older, h5py.Group) and name in older and isinstance(column, h5py.Dataset):
        return _Coded(column, older[name])
    if not isinstance(column, h5py.Group):
        return column
    if "categories" in column:
        return _Coded(_values(column["codes"]), column["categories"])
    return _Masked(_values(column["values"]), column.get("mask"))


def _values(place: Any) -> Any:
    if not isinstance(place, h5py.Dataset):
        raise ValueError("a group is in the place of values")  # noqa: TRY004 - as h5py's own errors of a damaged file
    return place


class _Field:
    """One field of a compound table, the layout before AnnData 0.7."""

    def __init__(self, table: Any, name: str):
        self.shape, self.dtype = table.shape, table.dtype
        self._field = table.fields(name)

    def __getitem__(self, rows: slice) -> Any:
        return self._field[rows]


class _Masked:
    """Values of which a mask marks some as missing."""

    def __init__(self, values: Any, mask: Any):
        self.shape, self.dtype = values.shape, values.dtype
        self._values, self._mask = values, mask

    def __getitem__(self, rows: slice) -> Any:
        block = np.asarray(_decoded(self._values[rows]), dtype=object)
        if self._mask is not None:
            block[self._mask[rows].astype(bool)] = _MISSING
        return block


class _Coded:
    """A categorical column: integer codes that refer to a few texts."""

    def __init__(self, codes: Any, categories: Any):
        self.shape, self.dtype = codes.shape, codes.dtype
        self._codes, self._categories = codes, categories

    def texts(self) -> Iterator[str]:
        categories = self._categories
        if isinstance(categories, h5py.Group):
            categories = _Masked(_values(categories["values"]), categories.get("mask"))
        if categories.shape[0] > CELLS_MAX:
            raise ValueError(f"it holds more than {CELLS_MAX} categories")
        known = list(_texts(categories))
        for block in _blocks(self._codes):
            yield from (known[code] if code >= 0 else "nan" for code in block.tolist())


def _texts(values: Any) -> Iterator[str]:
    for block in _blocks(values):
        yield from _decoded(block)


def _blocks(values: Any) -> Iterator[Any]:
    height = min(_BLOCK_ROWS, max(1, _BLOCK_BYTES // max(1, values.dtype.itemsize)))
    for start in range(0, values.shape[0], height):
        yield values[start : start + height]


def _decoded(block: Any) -> list[str]:
    if block.dtype.kind not in "OS":
        return [str(value) for value in block]
    return [
        value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value) for value in block.tolist()
    ]


class Names:
    """The cell names in a store's small file, which stays open so that they can be read after the store is removed."""

    def __init__(self, path: Path):
        self._file = open(path, "rb")  # noqa: SIM115 - it stays open as long as this object lives
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._index: pd.Index | None = None

    def index(self) -> pd.Index:
        """Return one name for each cell, in order, as anndata reads them; raises one of `h5ad.ERRORS`."""
        import pandas as pd  # noqa: PLC0415 - a summary needs cell names only as text and loads neither module

        from .elements import read_elem  # noqa: PLC0415 - as above

        with self._lock:
            if self._index is None:
                with h5py.File(self._file, "r") as file:
                    found, name = read_elem(_place(file["obs"])), axis_name(file["obs"])
                self._index = pd.Index(found, name=name)
            return self._index


def has_plain_names(table: Any) -> bool:
    """Whether the names of a table can be read later: they are one string array, unlike in older or unusual tables."""
    if not isinstance(table, h5py.Group):
        return False
    kind = table.attrs.get("encoding-type"), table.attrs.get("encoding-version")
    if kind != ("dataframe", "0.2.0") or not isinstance(place := table.get(tables.index_name(table)), h5py.Dataset):
        return False
    return place.attrs.get("encoding-type") == "string-array" and place.ndim == 1 and len(place) <= CELLS_MAX


def axis_name(table: Any) -> str | None:
    """Return anndata's name for the index of a table for which `has_plain_names` holds."""
    name = tables.index_name(table)
    return None if name == "_index" else name


def are_unique(path: Path) -> bool:
    """Whether the cell names in a small file are unique; may be False in error, since hashes are compared."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = np.fromiter(map(hash, names(file["obs"])), np.int64)
    except h5ad.ERRORS:
        return False  # the code that opens the file meets the same error and can report it
    found.sort()
    return not np.any(found[1:] == found[:-1])


def _place(table: Any) -> Any:
    return table[tables.index_name(table)]
