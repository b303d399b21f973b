"""The matrix of a dataset in its .h5ad file: X, a layer, or the matrix of `raw`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import BadOptions, DamagedFile, NotViewable

from . import h5ad, tables

RAW = ("raw", "raw/X")  # names of the matrix of `raw` in the option `layer`; a layer named raw takes precedence
_CELLS_MAX = 2**31 - 1  # the largest count that an int32 holds
_CACHE_BYTES = 1 << 20
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Source:
    """A matrix in an open file: `place` is its HDF5 group (sparse) or dataset (dense), `var` the table of its genes."""

    place: Any
    kind: str  # csr, csc or dense
    shape: tuple[int, int]
    stored: np.dtype[Any]  # of a value in the file
    dtype: np.dtype[Any]  # of a value in the viewer
    var: Any


@contextlib.contextmanager
def opened(path: str, *, cache: int = 0) -> Iterator[Any]:
    """Open the file for reading, and check that it is AnnData.

    `cache` is the number of unpacked bytes that HDF5 keeps of each dataset, at least its default of 1 MiB. Any of
    `h5ad.ERRORS` raised while the file is open becomes the Problem that explains it.
    """
    h5ad.check(path)
    try:
        # HDF5's lock is off, since some network file systems refuse it.
        with h5py.File(path, "r", locking=False, rdcc_nbytes=max(cache, _CACHE_BYTES)) as file:
            h5ad.check_anndata(path, file)
            yield file
    except h5ad.ERRORS as error:
        raise h5ad.open_problem(path, error) from error


def status(file: Any) -> os.stat_result:
    """Return the stat result of the open file, which may no longer be the file at its path."""
    return os.fstat(file.id.get_vfd_handle())


def own(file: Any, place: Any, path: str) -> Any:
    """Return the group or dataset if all of it lies in the file itself, else raise NotViewable.

    HDF5 can take data from any other file. A user who prepares datasets for others would then pass on data that only
    they may read, and a change of the other file would go unnoticed.
    """
    if place is None:
        return None
    inside: list[Any] = [place]
    if isinstance(place, h5py.Group):
        place.visititems(lambda _, each: inside.append(each))  # follows no links
    if place.file.filename != file.filename or any(map(_is_elsewhere, inside)):
        raise NotViewable(display_name(path), detail=f"{place.name} lies in another file; write a file that holds all")
    return place


def _is_elsewhere(place: Any) -> bool:
    """Whether a dataset takes its values from another file, or a group has a link to one."""
    if isinstance(place, h5py.Dataset):
        return bool(place.external or place.is_virtual)
    return any(isinstance(place.get(name, getlink=True), h5py.ExternalLink) for name in place)


def find(file: Any, layer: str | None, path: str) -> Source:
    """Return the matrix that the viewer shows: X, or the given layer.

    Raises BadOptions if the file has no such layer, and NotViewable for a matrix that cannot be shown.
    """
    name = display_name(path)
    place, var = (own(file, each, path) for each in _place(file, layer, name))
    kind, shape, stored = _described(place, name)
    if 0 in shape:
        raise NotViewable(name, detail=f"it holds {shape[0]} cells and {shape[1]} genes")
    if shape[0] > _CELLS_MAX:
        raise NotViewable(name, detail="it holds more than two thousand million cells")
    rows = tables.count(file["obs"]), tables.count(var)
    if any(count not in (None, there) for count, there in zip(rows, shape, strict=True)):
        detail = f"its matrix is of {shape[0]} cells and {shape[1]} genes, but obs has {rows[0]} rows and var {rows[1]}"
        raise NotViewable(name, detail=detail)
    dtype = viewed(stored)
    if dtype is None:
        raise NotViewable(name, detail=f"its matrix holds values of the kind {stored}, not numbers")
    return Source(place, kind, shape, stored, dtype, var)


def viewed(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the dtype that values of `dtype` have in the viewer, or None if they cannot be shown.

    cellxgene converts to float32 every dtype that float32 holds exactly, bool included, and keeps the others
    (`AnndataAdaptor._validate_data_types`). It fails on complex numbers; long double becomes float64.
    """
    if dtype.kind not in "biuf":
        return None
    native = dtype.newbyteorder("=")
    if native.kind == "f" and native.itemsize > 8:
        return np.dtype(np.float64)
    return np.dtype(np.float32) if np.can_cast(native, np.float32) else native


def check_values(dtype: np.dtype[Any], least: Any, most: Any, path: str) -> None:
    """Raise NotViewable for integers outside 32 bits, which cellxgene's pages cannot hold.

    `least` and `most` are the smallest and the largest value of the matrix, None if it stores no values.
    """
    if dtype.kind in "iu" and least is not None and (least < _INT32.min or most > _INT32.max):
        detail = f"its matrix holds whole numbers from {least} to {most}, beyond what its page can hold (32 bits)"
        raise NotViewable(display_name(path), detail=detail)


def _place(file: Any, layer: str | None, name: str) -> tuple[Any, Any]:
    layers = file.get("layers")
    known = list(layers) if isinstance(layers, h5py.Group) else []
    if layer is None:
        return file.get("X"), file["var"]
    if layer in known:
        return layers[layer], file["var"]
    raw = _raw(file)
    if layer in RAW and raw:
        return raw
    names = known + ["raw"] * bool(raw)
    detail = f"layer is {layer!r}, but the file has {', '.join(names[:12]) or 'none'}"
    raise BadOptions(name, detail=detail)


def _raw(file: Any) -> tuple[Any, Any] | None:
    """Return the matrix and the genes of `raw`, which before AnnData 0.7 were stored beside X, or None."""
    for matrix, genes in (("raw/X", "raw/var"), ("raw.X", "raw.var")):
        if matrix in file and genes in file:
            return file[matrix], file[genes]
    return None


def _described(place: Any, name: str) -> tuple[str, tuple[int, int], np.dtype[Any]]:
    if isinstance(place, h5py.Group):
        kind = tables.text(place.attrs.get("h5sparse_format", place.attrs.get("encoding-type", "")))
        kind = kind.removesuffix("_matrix")
        shape = place.attrs.get("shape", place.attrs.get("h5sparse_shape", ()))
        if kind in ("csr", "csc"):
            if not (_is_line(place.get("data")) and _has_indices(place)):
                raise DamagedFile(name, detail="its sparse matrix lacks a part, or one is of another kind")
            return kind, _plane(shape, name), place["data"].dtype
        raise NotViewable(name, detail=f"its matrix is of the kind {kind or 'that nothing says'}")
    if isinstance(place, h5py.Dataset) and place.shape is not None and place.attrs.get("encoding-type") != "null":
        return "dense", _plane(place.shape, name), place.dtype
    raise NotViewable(name, detail="it has no matrix X")


def _has_indices(place: Any) -> bool:
    """Whether both arrays of indices of a sparse matrix hold numbers; anndata also reads those that are floats."""
    parts = place.get("indices"), place.get("indptr")
    return all(_is_line(part) and part.dtype.kind in "iuf" for part in parts)


def _is_line(part: Any) -> bool:
    """Whether a part of a sparse matrix is an array of one dimension."""
    return isinstance(part, h5py.Dataset) and part.shape is not None and len(part.shape) == 1


def _plane(shape: Any, name: str) -> tuple[int, int]:
    sizes = np.atleast_1d(shape) if np.asarray(shape).dtype.kind in "iuf" else np.zeros(0)
    if sizes.size != 2:
        raise NotViewable(name, detail=f"its matrix has {sizes.size} dimensions")
    return int(sizes[0]), int(sizes[1])
