"""Whatever an .h5ad file holds, its store holds the same matrix, made in bounded memory, whole or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from server.common.compute.estimate_distribution import estimate_approximate_distribution

from cxg_proxy.viewer.store import matrix
from cxg_proxy.viewer.store.value_range import ValueRange
from matrices import PLAIN, as_read, folder, in_file, make, same, write_file

QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i4", ">f8")


@st.composite
def storages(draw: st.DrawFn) -> dict[str, Any]:
    """How HDF5 may keep an array of one dimension."""
    compression = draw(st.sampled_from([None, "gzip", "lzf"]))
    chunks = draw(st.sampled_from([None, 1, 7, 100, 5000]))
    if compression and chunks is None:
        chunks = 50
    return {"compression": compression, "chunks": chunks, "shuffle": bool(compression) and draw(st.booleans())}


def numbers(draw: Any, dtype: str, size: int, odd: bool) -> Any:
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    values = random.integers(0, 60, size).astype(dtype)
    if np.dtype(dtype).kind == "f":
        values = (random.normal(size=size) * draw(st.sampled_from([1, 30]))).astype(dtype)
        if odd:
            values[random.random(size) < 0.1] = np.nan
            values[random.random(size) < 0.1] = draw(st.sampled_from([np.inf, -np.inf, -0.0]))
    return values


@st.composite
def sparse_parts(draw: st.DrawFn) -> Any:
    """Shape, kind and arrays of a sparse matrix, perhaps neither sorted nor without repetition."""
    cells, genes = draw(st.integers(1, 60)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["csr", "csc"]))
    lines, length = (cells, genes) if kind == "csr" else (genes, cells)
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    repeated, sorted_ = draw(st.booleans()), draw(st.booleans())
    rows = []
    for _ in range(lines):
        count = random.integers(0, length + 1)
        row = random.choice(length, count, replace=repeated)
        rows.append(np.sort(row, kind="stable") if sorted_ else row)
    indices = np.concatenate(rows).astype(draw(st.sampled_from(["i4", "i8", "u2"])))
    indptr = np.cumsum([0, *map(len, rows)]).astype(draw(st.sampled_from(["i4", "i8"])))
    data = numbers(draw, draw(st.sampled_from(NUMBERS)), len(indices), draw(st.booleans()))
    return (cells, genes), kind, indptr, indices, data


def summed(parts: Any) -> Any:
    """What SciPy makes of the arrays, in the viewer's kind."""
    shape, kind, indptr, indices, data = parts
    native = data.dtype.newbyteorder("=")
    dtype = np.promote_types(native, np.float32) if np.can_cast(native, np.float32) else native
    made = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind](shape, dtype=dtype)
    made.indptr, made.indices, made.data = indptr.astype("i8"), indices.astype("i8"), data.astype(dtype)
    return made.toarray()


@QUIET
@given(
    parts=sparse_parts(), how=storages(), older=st.booleans(), memory=st.sampled_from([1, 1 << 20, 20 << 20, 1 << 30])
)
def test_any_sparse_matrix_is_the_same_by_columns(parts: Any, how: dict[str, Any], older: bool, memory: int) -> None:
    with folder() as place:
        path = write_file(place / "a.h5ad", *parts[0], in_file(parts, how, older))
        found = make(path, place / "store", memory=memory)
        same(found, summed(parts))
        if parts[4].dtype.isnative and parts[4].dtype != np.float16:  # anndata cannot read the others as sparse
            same(found, as_read(path))
    finite = parts[4][np.isfinite(parts[4])].astype(float)
    assert found.distribution == ("count" if finite.size and finite.max() - finite.min() > 24 else "normal")


@pytest.mark.parametrize("memory", [1, 1 << 30])
@pytest.mark.parametrize("packed", [None, "gzip"])
@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_values_that_are_neither_in_order_nor_single_are_summed(
    kind: str, repeated: bool, packed: str | None, memory: int, tmp_path: Path
) -> None:
    """As SciPy does, one after the other; and 0 + -0.0 is 0."""
    random = np.random.default_rng(8)
    shape = (300, 200)
    lines, length = shape if kind == "csr" else shape[::-1]
    rows = [random.choice(length, random.integers(0, length // 2), replace=repeated) for _ in range(lines)]
    indptr = np.cumsum([0, *map(len, rows)])
    data = random.normal(size=indptr[-1]).astype("f4") * 10.0 ** random.integers(-6, 6, indptr[-1])
    data[random.random(len(data)) < 0.1] = -0.0
    parts = (shape, kind, indptr, np.concatenate(rows), data.astype("f4"))
    how = {**PLAIN, "compression": packed, "chunks": packed and 500}
    path = write_file(tmp_path / "a.h5ad", *shape, in_file(parts, how, False))
    same(make(path, tmp_path / "store", memory=memory), as_read(path))


@st.composite
def dense_files(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    cells, genes = draw(st.integers(1, 70)), draw(st.integers(1, 50))
    values = numbers(draw, draw(st.sampled_from([*NUMBERS, "f16"])), cells * genes, draw(st.booleans()))
    chunks = draw(st.sampled_from([None, (1, 1), (7, 3), (1, 50), (70, 1), (30, 30), (70, 50)]))
    chunks = chunks and (min(cells, chunks[0]), min(genes, chunks[1]))
    how = {"chunks": chunks, "compression": chunks and draw(st.sampled_from([None, "gzip", "lzf"]))}
    return values.reshape(cells, genes), how


@QUIET
@given(parts=dense_files(), bare=st.booleans(), memory=st.sampled_from([1, 1 << 20, 1 << 30]))
def test_any_dense_matrix_is_the_same_by_columns(parts: Any, bare: bool, memory: int) -> None:
    values, how = parts

    def write(file: h5py.File) -> None:
        file.create_dataset("X", data=values, **how)
        if not bare:  # as AnnData wrote it before 0.7
            file["X"].attrs["encoding-type"], file["X"].attrs["encoding-version"] = "array", "0.2.0"

    with folder() as place:
        path = write_file(place / "a.h5ad", *values.shape, write)
        found = make(path, place / "store", memory=memory)
        expected = as_read(path)
    same(found, expected.astype(np.float64) if values.dtype.itemsize == 16 else expected)
    assert isinstance(found.matrix, matrix.Dense)
    assert found.matrix.values.flags.f_contiguous
    finite = values[np.isfinite(values)].astype(float)
    assert found.distribution == ("count" if finite.size and finite.max() - finite.min() > 24 else "normal")


@QUIET
@given(size=st.integers(1, 300), seed=st.integers(0, 2**20), dtype=st.sampled_from(["f4", "f8", "i4", "i8", "u4"]))
def test_the_distribution_is_what_cellxgene_guesses(size: int, seed: int, dtype: str) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(size=size) * random.choice([1, 5, 12])).astype(dtype)
    if dtype[0] == "f":
        values[random.random(size) < random.choice([0, 0.5, 1])] = random.choice([np.nan, np.inf])
    seen = ValueRange()
    for piece in np.array_split(values, 3):
        if piece.size:
            seen.add(piece)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inf - inf
        assert estimate_approximate_distribution(values.reshape(-1, 1)) == seen.distribution
