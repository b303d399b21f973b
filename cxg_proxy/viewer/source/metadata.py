"""The small .h5ad of a store: everything the viewer shows of a dataset but its matrix, as it lies in the file.

HDF5 copies the tables as they are, so that anndata reads from the copy what it reads from the file, whatever its age.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from server.common.utils.corpora_constants import CorporaConstants

from cxg_proxy.viewer.store.array_files import problem, told

from .matrix import Source, own

Array = NDArray[Any]
_SHOWN = 2  # columns of an embedding that cellxgene asks for
_SAMPLE = 1000  # rows whose text tells how long the others' is
_HEADER_BYTES = 2000  # that HDF5 takes for a group or a dataset, about
_BLOCK_BYTES = 16 * 1024**2
_CORPORA = {
    *CorporaConstants.REQUIRED_SIMPLE_METADATA_FIELDS,
    *CorporaConstants.OPTIONAL_JSON_ENCODED_METADATA_FIELD,
    *CorporaConstants.OPTIONAL_SIMPLE_METADATA_FIELDS,
}
# What anndata looks for in uns of a file from before 0.7: labels of categories, and which columns are matrices.
_OLDER = ("_categories", "_keys_multicol")


def write(file: Any, found: Source, path: Path, source: str, which: str) -> None:
    """Write the small file of an open dataset; raises NoRoom or StoreNotWritten about `which`, or `reading.ERRORS`."""
    with told(which):
        out = _Out(path)
    with out:
        try:
            with h5py.File(out, "w", track_order=True) as small:
                fill(file, found, small, source)
        finally:
            # What HDF5 has raised is only a consequence.
            if out.failure is not None:
                raise problem(which, out.failure) from out.failure
        with told(which):
            os.fsync(out.fileno())


def fill(file: Any, found: Source, small: Any, source: str) -> None:
    """Put all but the matrix of the dataset that is open, whose path is `source`, into another open file."""
    for name, value in file.attrs.items():
        small.attrs[name] = value
    for name, table in (("obs", own(file, file["obs"], source)), ("var", found.var)):
        file.copy(table, small, name)
        if isinstance(table, h5py.Group):
            _point(table, small[name])
    obsm, uns = (small.create_group(name, track_order=True) for name in ("obsm", "uns"))
    for group in (obsm, uns):
        group.attrs["encoding-type"], group.attrs["encoding-version"] = "dict", "0.1.0"
    for name, array in embeddings(file, found.shape[0], source):
        obsm.create_dataset(name, data=array)
        obsm[name].attrs["encoding-type"], obsm[name].attrs["encoding-version"] = "array", "0.2.0"
    for name, entry in described(file, source):
        file.copy(entry, uns, name)


def estimate(file: Any, found: Source, source: str) -> int:
    """About how many bytes the small file of an open dataset will take."""
    tables = [own(file, file["obs"], source), found.var, *(entry for _, entry in described(file, source))]
    parts: dict[str, Any] = {}
    for table in tables:
        parts[table.name] = table
        if isinstance(table, h5py.Group):
            table.visititems(lambda _, part: parts.update({part.name: part}))
    stored = sum(_stored(part) for part in parts.values() if isinstance(part, h5py.Dataset))
    embedded = found.shape[0] * _SHOWN * sum(_embedded(file.get("obsm")))
    return stored + embedded + _HEADER_BYTES * len(parts)


def _stored(part: Any) -> int:
    """The bytes of its values; text of any length lies elsewhere in the file, with 16 bytes about each."""
    held = int(part.id.get_storage_size())
    if not part.dtype.hasobject or not part.size or not part.shape:
        return held
    some = part[:_SAMPLE]
    fields = [some[name] for name in some.dtype.names] if some.dtype.names else [some]
    lengths = [len(value) + 16 + 7 for field in fields for value in field.flat if isinstance(value, bytes | str)]
    return held + sum(lengths) * int(part.size) // int(some.size)


def _embedded(obsm: Any) -> Iterator[int]:
    """The bytes of a value of each embedding that may be shown."""
    if isinstance(obsm, h5py.Dataset):
        kinds = {name: obsm.dtype[name].base for name in obsm.dtype.names or ()}
    else:
        kinds = {name: place.dtype for name, place in (obsm or {}).items() if isinstance(place, h5py.Dataset)}
    yield from (kind.itemsize for name, kind in kinds.items() if name.startswith("X_") and kind.kind in "fiu")


def _point(table: Any, copy: Any) -> None:
    """Have the columns of categories of AnnData 0.7 and 0.6 point to their labels, as in the original."""
    for name, column in table.items():
        labels = column.attrs.get("categories")
        if isinstance(labels, h5py.Reference):
            place = table.file[labels].name.removeprefix(f"{table.name}/")
            copy[name].attrs["categories"] = copy[place].ref


def described(file: Any, source: str) -> Iterator[tuple[str, Any]]:
    """What cellxgene reads of uns: colours, and the description by the Corpora schema."""
    uns = file.get("uns")
    for name in uns if isinstance(uns, h5py.Group) else ():
        if name in _CORPORA or name.endswith(("_colors", *_OLDER)):
            yield name, own(file, uns[name], source)


def embeddings(file: Any, cells: int, source: str) -> Iterator[tuple[str, Array]]:
    """The embeddings that cellxgene would show (`AnndataAdaptor._is_valid_layout`), as many columns as it asks for."""
    obsm = file.get("obsm")
    if isinstance(obsm, h5py.Dataset):  # before AnnData 0.7: one table with a field for each
        names = obsm.dtype.names or ()
        own(file, obsm, source)
    else:
        names = list(obsm or ())
    for name in names:
        if not name.startswith("X_"):
            continue
        place = obsm[name]
        if isinstance(place, h5py.Dataset):
            own(file, place, source)
        if (array := _shown(place, cells)) is not None:
            yield name, array


def _shown(place: Any, cells: int) -> Array | None:
    """The first two columns, or None if cellxgene would not show them; it judges by all columns."""
    if not isinstance(place, h5py.Dataset | np.ndarray) or place.ndim != 2 or place.dtype.kind not in "fiu":
        return None
    if place.shape[0] != cells or place.shape[1] < _SHOWN:
        return None
    shown = np.empty((cells, _SHOWN), place.dtype)
    other = np.full((cells, 1), np.nan, place.dtype) if place.dtype.kind == "f" else None
    height = max(1, _BLOCK_BYTES // (place.shape[1] * place.dtype.itemsize))
    for top in range(0, cells, height):
        block = place[top : top + height]
        if np.isinf(block).any():
            return None
        shown[top : top + height] = block[:, :_SHOWN]
        if other is not None and block.shape[1] > _SHOWN:
            there = ~np.isnan(block[:, _SHOWN:])
            other[top : top + height][there.any(axis=1)] = 0
    if other is None or not np.isnan(shown).all():
        return shown
    # cellxgene shows it if there is a number in any column, so one must stay for it to see.
    return None if np.isnan(other).all() else np.hstack([shown, other])


class _Out(io.FileIO):
    """A file for HDF5 to write to, which never hears of a failure: it would not come to an end after one."""

    def __init__(self, path: Path):
        self.failure: OSError | None = None
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "r+")

    def write(self, content: Any) -> int:
        """Write all of it, or keep the failure."""
        view = memoryview(content).cast("B")
        size = len(view)
        while view and self.failure is None:
            try:
                view = view[super().write(view) :]
            except OSError as error:
                self.failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or keep the failure."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0
