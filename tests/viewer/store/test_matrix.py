"""The matrix by columns gives what SciPy gives, in memory or mapped from a file; what contradicts itself is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from cxg_proxy.viewer.store import matrix

FORMS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "by rows": np.ascontiguousarray,
    "by columns": np.asfortranarray,
}
TYPES = ["float32", "float64", "int32", "int64", "uint32", "uint64"]
GENES = np.array([7, 0, 3, 11])


def values(dtype: str = "float32", cells: int = 50) -> Any:
    """Few values, some of them negative where there can be, and a gene without any."""
    random = np.random.default_rng(0)
    drawn = random.normal(0, 30, (cells, 12)) * (random.random((cells, 12)) < 0.3)
    drawn[:, 3] = 0
    return (np.abs(drawn) if dtype.startswith("u") else drawn).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_columns_and_means_are_those_of_scipy(form: str, dtype: str) -> None:
    whole = values(dtype)
    theirs = FORMS[form](whole)
    ours = matrix.of(theirs)
    columns = ours.columns(GENES)
    assert ours.shape == whole.shape
    assert ours.dtype == columns.dtype == whole.dtype
    assert columns.flags.f_contiguous
    np.testing.assert_array_equal(columns, whole[:, GENES])
    mean = np.asarray(theirs[:, GENES].mean(axis=1)).reshape(-1, 1)
    assert ours.mean(GENES).dtype == mean.dtype
    np.testing.assert_allclose(ours.mean(GENES), mean, rtol=1e-5, atol=1e-5)
    exact = whole[:, GENES].astype(np.float64).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ours.mean(GENES), exact, rtol=1e-7 if mean.itemsize == 4 else 1e-14, atol=1e-14)


def test_what_is_no_number_stays_so(tmp_path: Path) -> None:
    whole = values()
    whole[3, 7], whole[4, 7], whole[5, 0] = np.nan, np.inf, -np.inf
    for make in FORMS.values():
        ours = matrix.of(make(whole))
        np.testing.assert_array_equal(ours.columns(GENES), whole[:, GENES])
        assert [str(ours.mean(GENES)[cell, 0]) for cell in (3, 4, 5)] == ["nan", "inf", "-inf"]


@pytest.mark.hazard(14)
def test_a_matrix_of_columns_is_shared_not_copied() -> None:
    columns, dense = sparse.csc_matrix(values()), np.asfortranarray(values())
    ours = matrix.of(columns)
    assert isinstance(ours, matrix.Sparse)
    assert np.shares_memory(ours.data, columns.data)
    assert np.shares_memory(ours.indices, columns.indices)
    whole = matrix.of(dense)
    assert isinstance(whole, matrix.Dense)
    assert np.shares_memory(whole.values, dense)


def test_nobody_can_write_to_it() -> None:
    for make in FORMS.values():
        ours = matrix.of(make(values()))
        parts = [ours.values] if isinstance(ours, matrix.Dense) else [ours.indptr, ours.indices, ours.data]
        for part in parts:
            with pytest.raises(ValueError, match="read-only"):
                part[...] = 0


def test_a_value_that_is_written_down_twice_is_their_sum() -> None:
    twice = sparse.csc_matrix((np.ones(3, np.float32), [1, 0, 1], [0, 3]), shape=(2, 1))
    np.testing.assert_array_equal(matrix.of(twice).columns(np.array([0])), [[1], [2]])
    assert twice.nnz == 3  # it is somebody else's, and left alone


def test_a_mapped_matrix_is_read_from_its_files(tmp_path: Path) -> None:
    theirs = sparse.csc_matrix(values())
    parts = []
    for name, dtype in (("indptr", np.int64), ("indices", np.int32), ("data", np.float32)):
        getattr(theirs, name).astype(dtype).tofile(tmp_path / name)
        parts.append(np.memmap(tmp_path / name, dtype, "r"))
    ours = matrix.Sparse(theirs.shape, *parts)
    np.testing.assert_array_equal(ours.columns(GENES), values()[:, GENES])
    dense = tmp_path / "dense"
    values().tofile(dense)  # cells x genes, row after row
    mapped = matrix.Dense(np.memmap(dense, np.float32, "r", shape=(50, 12)))
    np.testing.assert_array_equal(mapped.columns(GENES), values()[:, GENES])


@pytest.mark.parametrize(
    ("starts", "cells"),
    [([0, 2, 3], [0, 1]), ([0, 2], [0, 1]), ([1, 1, 2], [0, 1]), ([0, 3, 2], [0, 1])],
)
def test_parts_that_do_not_fit_each_other_are_refused(starts: list[int], cells: list[int]) -> None:
    with pytest.raises(matrix.Damaged):
        matrix.Sparse((2, 2), np.array(starts), np.array(cells, np.int32), np.ones(2, np.float32))


@pytest.mark.parametrize("cell", [2, -1, -2, 2**31 - 1, -(2**31)])
def test_a_cell_that_is_not_there_is_refused(cell: int) -> None:
    wild = matrix.Sparse((2, 1), np.array([0, 2]), np.array([0, cell], np.int32), np.ones(2, np.float32))
    with pytest.raises(matrix.Damaged, match="cells that are not there"):
        wild.columns(np.array([0]))
    with pytest.raises(matrix.Damaged, match="cells that are not there"):
        wild.mean(np.array([0]))
