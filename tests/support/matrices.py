"""Matrices in files of every kind, with the check that a store holds the same values."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
from scipy import sparse

from cxg_proxy.viewer.store import build, matrix, store
from cxg_proxy.viewer.store.origin import Origin

PLAIN = {"compression": None, "chunks": None, "shuffle": False}


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder in memory if the machine has one, because the tests wait for many writes."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield Path(place)


def make(path: Path, into: Path, layer: str | None = None, memory: int = 1 << 20) -> store.Store:
    into.mkdir()
    build.build(Origin.of(str(path), layer), into, memory=memory, report=lambda _: None, cancelled=lambda: False)
    return store.Store.open(into, Origin.of(str(path), layer).fingerprint)


def as_read(path: Path, layer: str | None = None) -> Any:
    """Return the matrix as cellxgene holds it after opening the file, but dense."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = anndata.read_h5ad(path)
    values = {None: data.X, "raw": data.raw and data.raw.X}.get(layer)
    values = data.layers[layer] if values is None else values
    if values.dtype < np.float32:  # as `AnndataAdaptor._validate_data_types` does
        values = values.astype(np.float32)
    return values.toarray() if sparse.issparse(values) else values


def dense(found: matrix.Matrix) -> Any:
    return found.columns(np.arange(found.shape[1]))


def same(found: store.Store, expected: Any) -> None:
    assert found.shape == found.matrix.shape == expected.shape
    assert found.dtype == found.matrix.dtype == expected.dtype.newbyteorder("=")
    values = dense(found.matrix)
    np.testing.assert_array_equal(values, expected)
    if expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(values), np.signbit(expected))
    if isinstance(found.matrix, matrix.Sparse):
        for gene in range(found.shape[1]):
            cells = found.matrix.indices[found.matrix.indptr[gene] : found.matrix.indptr[gene + 1]]
            assert np.all(np.diff(cells) > 0)


def write_file(path: Path, cells: int, genes: int, group: Any) -> Path:
    """Write a dataset whose matrix is written by `group`, which is called with the open file."""
    empty = anndata.AnnData(shape=(cells, genes), obsm={"X_umap": np.random.default_rng(1).random((cells, 2))})
    path.unlink(missing_ok=True)
    empty.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        group(file)
    return path


def stored(group: h5py.Group, name: str, values: Any, how: dict[str, Any]) -> None:
    chunks = how["chunks"] and (how["chunks"],)
    group.create_dataset(name, data=values, **{**how, "chunks": chunks, "maxshape": (None,) if chunks else None})


def in_file(parts: Any, how: dict[str, Any], older: bool, place: str = "X") -> Any:
    shape, kind, indptr, indices, data = parts

    def write(file: h5py.File) -> None:
        group = file.create_group(place)
        if older:
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = kind, shape
        else:
            group.attrs["encoding-type"], group.attrs["encoding-version"] = f"{kind}_matrix", "0.1.0"
            group.attrs["shape"] = shape
        for name, values in (("indptr", indptr), ("indices", indices), ("data", data)):
            stored(group, name, values, how)

    return write
