"""The names of a dataset's cells, as text and block by block, from a file of any age of AnnData."""

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

from . import h5ad

if TYPE_CHECKING:
    import pandas as pd

CELLS_MAX = 20_000_000  # more than any file cellxgene can hold; a damaged or hostile one may claim any number
_BLOCK_BYTES = 4 * 1024**2
_BLOCK_ROWS = 65_536
_SHOWN = 12  # names in a sentence
_OURS_MAX = 10_000
_MISSING = "<NA>"  # what pandas makes of a gap in text or whole numbers


def identifiers(path: str) -> str | None:
    """The digest that recognises these cells in another file, or None if the file does not tell their names."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return digest(file)
    except h5ad.ERRORS:
        return None


def digest(file: Any, *, seconds: float = float("inf")) -> str | None:
    """The same for an open file; None also if it takes longer than so many seconds."""
    try:
        return identifiers_digest(_in_time(names(file["obs"]), time.monotonic() + seconds))
    except (*h5ad.ERRORS, TimeoutError):
        return None


@dataclass(frozen=True)
class Cells:
    """What labels are matched to."""

    names: list[str]
    own: list[str]  # the dataset's own columns
    index: str  # what names the cells, "" if that has no name


def read(dataset: str, options: Mapping[str, Any]) -> Cells:
    """The cells by the names that the viewer gives them; raises BadOptions, or one of `reading.ERRORS`."""
    wanted = options.get("obs_names")
    with h5py.File(dataset, "r", locking=False) as file:
        obs = file["obs"]
        own = columns(obs)
        if wanted == index_name(obs) and wanted not in own:
            wanted = None
        if wanted is not None and wanted not in own:
            known = ", ".join(own[:_SHOWN]) + (" and others" if len(own) > _SHOWN else "")
            detail = f"obs_names is {wanted!r}, but obs has {known or 'no columns'}"
            raise BadOptions(display_name(dataset), detail=detail)
        return Cells(list(names(obs, wanted)), own, wanted or index_name(obs).removeprefix("_"))


def names(obs: Any, column: str | None = None) -> Iterator[str]:
    """Each cell's name, in order: of the index, or of another column; raises one of `reading.ERRORS`.

    They are what `adata.obs_names` holds after reading the file: numbers become text as pandas writes them.
    """
    values = _column(obs, column)
    if values.shape[0] > CELLS_MAX:
        raise ValueError(f"it holds more than {CELLS_MAX} cells")
    if isinstance(values, _Coded):
        return values.texts()
    return _texts(values)


def columns(obs: Any) -> list[str]:
    """The names of the table's columns, without the index."""
    if isinstance(obs, h5py.Dataset):
        return list(obs.dtype.names[1:])
    order = obs.attrs.get("column-order")
    if order is None:
        return [name for name in obs if name not in (index_name(obs), "__categories")]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in np.asarray(order).ravel()]


def ours(path: str) -> set[str]:
    """The columns that are labels from the viewer, which somebody put into the file; none if it does not say so."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return set(_decoded(file["uns"][CATEGORIES][:_OURS_MAX]))
    except h5ad.ERRORS:
        return set()


def index_name(obs: Any) -> str:
    """What the file calls the column of the names."""
    if isinstance(obs, h5py.Dataset):
        return str(obs.dtype.names[0])
    name = obs.attrs.get("_index", "_index")
    return name.decode() if isinstance(name, bytes) else str(name)


def _in_time(cells: Iterator[str], deadline: float) -> Iterator[str]:
    for number, cell in enumerate(cells):
        if not number % _BLOCK_ROWS and time.monotonic() > deadline:
            raise TimeoutError
        yield cell


def _column(obs: Any, name: str | None) -> Any:
    """What holds the column's values, as something with a shape that can be sliced."""
    if isinstance(obs, h5py.Dataset):  # before AnnData 0.7: one table with a field for each column
        return _Field(obs, name or index_name(obs))
    name = name or index_name(obs)
    column, older = obs[name], obs.get("__categories")
    if isinstance(older, h5py.Group) and name in older and isinstance(column, h5py.Dataset):
        return _Coded(column, older[name])
    if not isinstance(column, h5py.Group):
        return column
    if "categories" in column:
        return _Coded(column["codes"], column["categories"])
    return _Masked(column["values"], column.get("mask"))


class _Field:
    """One field of a table."""

    def __init__(self, table: Any, name: str):
        self.shape, self.dtype = table.shape, table.dtype
        self._field = table.fields(name)

    def __getitem__(self, rows: slice) -> Any:
        return self._field[rows]


class _Masked:
    """Values with gaps."""

    def __init__(self, values: Any, mask: Any):
        self.shape, self.dtype = values.shape, values.dtype
        self._values, self._mask = values, mask

    def __getitem__(self, rows: slice) -> Any:
        block = np.asarray(_decoded(self._values[rows]), dtype=object)
        if self._mask is not None:
            block[self._mask[rows].astype(bool)] = _MISSING
        return block


class _Coded:
    """Numbers that stand for a few texts."""

    def __init__(self, codes: Any, categories: Any):
        self.shape, self.dtype = codes.shape, codes.dtype
        self._codes, self._categories = codes, categories

    def texts(self) -> Iterator[str]:
        categories = self._categories
        if isinstance(categories, h5py.Group):
            categories = _Masked(categories["values"], categories.get("mask"))
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
    """The names in a small file, which is held: they can be read even after the store was removed."""

    def __init__(self, path: Path):
        self._file = open(path, "rb")  # noqa: SIM115 - held as long as this is
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        self._index: pd.Index | None = None

    def index(self) -> pd.Index:
        """One text for each cell, in order, as anndata gives it; raises one of `reading.ERRORS`."""
        import pandas as pd  # noqa: PLC0415 - a summary, which needs cells only as text, loads neither of these

        from .elements import read_elem  # noqa: PLC0415 - as above

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
    if kind != ("dataframe", "0.2.0") or not isinstance(place := table.get(index_name(table)), h5py.Dataset):
        return False
    return place.attrs.get("encoding-type") == "string-array" and place.ndim == 1 and len(place) <= CELLS_MAX


def axis_name(table: Any) -> str | None:
    """What anndata calls the index of such a table."""
    name = index_name(table)
    return None if name == "_index" else name


def count(table: Any) -> int:
    """How many there are."""
    return len(_place(table))


def differ(path: Path) -> bool:
    """Whether each cell in a small file has a name of its own; it may be said wrongly that one has not."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = np.fromiter(map(hash, names(file["obs"])), np.int64)
    except h5ad.ERRORS:
        return False  # who opens the file meets the same, and can say it
    found.sort()
    return not np.any(found[1:] == found[:-1])


def _place(table: Any) -> Any:
    return table[index_name(table)]
