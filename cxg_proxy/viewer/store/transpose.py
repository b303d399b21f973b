"""A sparse matrix by cells becomes one by genes: the compiled loops, and what puts a gene's values in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxg_proxy.viewer.numba_cache import compiled

Array = NDArray[Any]


@compiled
def count(indptr, indices, first, last, counts, repeated):  # type: ignore[no-untyped-def]  # noqa: PLR0917 - numba gives the types, and takes no names
    """Count each gene's values in the cells that begin with number `first`, and how often a cell repeats a gene.

    indptr int64 (cells + 1), from 0; indices int32, all below len(counts). `last` int32 (genes) remembers the cell that
    had the gene last, -1 in the beginning; counts and repeated int64 (genes) are added to.
    """
    for row in range(len(indptr) - 1):
        cell = first + row
        for place in range(indptr[row], indptr[row + 1]):
            gene = indices[place]
            counts[gene] += 1
            if last[gene] == cell:
                repeated[gene] += 1
            last[gene] = cell


@compiled
def scatter(indptr, indices, bits, first, following, cells, values):  # type: ignore[no-untyped-def]  # noqa: PLR0917 - as above
    """Put the values of each cell where `following` (int64, genes) says that the gene's next one belongs.

    `bits` are the values as unsigned integers of their size, copied to `values` of the same kind; `cells` int32 takes
    the cells' numbers. Returns whether all had a place: what lies outside the arrays is left out.
    """
    size = len(values)
    for row in range(len(indptr) - 1):
        cell = first + row
        for place in range(indptr[row], indptr[row + 1]):
            gene = indices[place]
            target = following[gene]
            if target < 0 or target >= size:
                return False
            following[gene] = target + 1
            cells[target] = cell
            values[target] = bits[place]
    return True


@compiled
def rises(indptr, indices):  # type: ignore[no-untyped-def]  # as above
    """Whether the indices (int32) rise within each row of indptr (int64), no index twice."""
    for row in range(len(indptr) - 1):
        for place in range(indptr[row] + 1, indptr[row + 1]):
            if indices[place] <= indices[place - 1]:
                return False
    return True


def as_bits(values: Array) -> Array:
    """The same memory as unsigned integers, so that the loops are compiled for two kinds of values only."""
    return values.view(f"u{values.dtype.itemsize}")


def in_order(indptr: Array, indices: Array, values: Array) -> tuple[Array, Array, Array]:
    """The same columns with rising indices, an index that is there twice holding the sum of both.

    As SciPy's `toarray` sums them: one after the other as they are stored, in the values' own kind, beginning with 0.
    """
    if rises(indptr, indices):
        return indptr, indices, values
    for column in range(len(indptr) - 1):
        span = slice(indptr[column], indptr[column + 1])
        if np.any(indices[span][1:] < indices[span][:-1]):
            order = np.argsort(indices[span], kind="stable")
            indices[span], values[span] = indices[span][order], values[span][order]
    return _summed(indptr, indices, values)


def _summed(indptr: Array, indices: Array, values: Array) -> tuple[Array, Array, Array]:
    new = np.ones(len(indices), bool)  # whether a value is the first of its index in its column
    np.not_equal(indices[1:], indices[:-1], out=new[1:])
    starts = indptr[:-1]
    new[starts[starts < len(new)]] = True
    target = np.cumsum(new) - 1
    total = np.zeros(int(new.sum()), values.dtype)
    np.add.at(total, target, values)
    ends = np.concatenate(([0], np.cumsum(new)))[indptr]
    return ends, indices[new], total
