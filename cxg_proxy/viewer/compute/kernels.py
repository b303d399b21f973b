"""Kernels of the statistics: compiled inner loops that compute the statistics of each gene in two groups of cells.

They take a block of genes, so that threads can share a matrix and stop between two blocks. No kernel starts a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from numba import types

from cxg_proxy.viewer.numba_cache import compiled

IN_A, IN_B = 1, 2  # bits of a cell's group; a cell may be in both
# The bits of a gene's oddities: values that make arithmetic raise floating-point errors.
NO_LOGARITHM, PLUS_INFINITY, MINUS_INFINITY = 1, 2, 4
MEAN, SQUARES, ODDITIES = range(3)  # rows of the result for A, followed by the three rows for B
ROWS = 6

_VALUES = (np.float32, np.float64, np.int32, np.int64)
# Additions may be reordered, so that several values are added at once, but the order is the same every time.
_any_order = numba.njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
_inner = numba.njit(nogil=True, error_model="numpy")


@_any_order
def _sum(values, count):  # type: ignore[no-untyped-def]  # numba infers the types, here and below
    total = 0.0
    for place in range(count):
        total += values[place]
    return total


@_any_order
def _squares(values, count, mean):  # type: ignore[no-untyped-def]
    total = 0.0
    for place in range(count):
        deviation = values[place] - mean
        total += deviation * deviation
    return total


@_inner
def _take_logarithms(values, count, logarithms):  # type: ignore[no-untyped-def]
    """Replace the values by log(1 + value), looked up for small integers, as most counts are; return the oddities."""
    oddities = 0
    for place in range(count):
        value = values[place]
        if 0 <= value < len(logarithms) and value == np.floor(value):
            values[place] = logarithms[int(value)]
        else:
            if value <= -1:
                oddities = NO_LOGARITHM
            values[place] = np.log1p(value)
    return oddities


@_inner
def _infinities(values, count):  # type: ignore[no-untyped-def]
    oddities = 0
    for place in range(count):
        if values[place] == np.inf:
            oddities |= PLUS_INFINITY
        elif values[place] == -np.inf:
            oddities |= MINUS_INFINITY
    return oddities


@_inner
def _conclude(values, count, cells, logarithms, gene, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917 - compiled code takes no keyword arguments
    """Write a gene's mean, sum of squared deviations and oddities to `out`.

    Of the `cells` cells, `count` have a value, and the others are 0.
    """
    oddities = 0
    if len(logarithms):
        oddities = _take_logarithms(values, count, logarithms)
    mean = _sum(values, count) / cells
    out[MEAN, gene] = mean
    out[SQUARES, gene] = _squares(values, count, mean) + (cells - count) * mean * mean
    if not np.isfinite(mean):
        oddities |= _infinities(values, count)
    out[ODDITIES, gene] = oddities


@compiled
def of_sparse(indptr, indices, data, first, groups, sizes, logarithms, a, b, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917 - as above
    """Fill the columns of `out` from `first` on for a block of genes of a matrix stored by columns.

    indptr: int64, where the genes of the block begin and the last one ends; indices, data: only those of the block.
    groups: uint8, the bits of each cell. sizes: float64, the numbers of cells in A and B. logarithms: float64,
    log(1 + n) of the first integers from 0 if the values are counts, else empty. a, b: float64, scratch with one place
    more than the group has cells. out: float64 (ROWS, genes). Returns False if the matrix names a cell that it does
    not have, or names one twice.
    """
    cells = np.uint32(len(groups))
    for row in range(len(indptr) - 1):
        in_a = 0
        in_b = 0
        for place in range(indptr[row] - indptr[0], indptr[row + 1] - indptr[0]):
            cell = np.uint32(indices[place])
            if cell >= cells:
                return False
            # The value is written for every cell and kept for those of the group, which is faster than a branch.
            value = np.float64(data[place])
            a[in_a] = value
            b[in_b] = value
            in_a += groups[cell] & IN_A
            in_b += groups[cell] >> 1
            if in_a == len(a) or in_b == len(b):
                return False
        _conclude(a, in_a, sizes[0], logarithms, first + row, out[:3])
        _conclude(b, in_b, sizes[1], logarithms, first + row, out[3:])
    return True


@compiled
def of_dense(values, first, groups, sizes, logarithms, a, b, out):  # type: ignore[no-untyped-def]  # noqa: PLR0917 - as above
    """Fill the columns of `out` from `first` on for a block of genes of a dense matrix, given as genes x cells.

    The other arguments are those of `of_sparse`. Returns True.
    """
    for row in range(values.shape[0]):
        in_a = 0
        in_b = 0
        for cell in range(values.shape[1]):
            value = np.float64(values[row, cell])
            a[in_a] = value
            b[in_b] = value
            in_a += groups[cell] & IN_A
            in_b += groups[cell] >> 1
        _conclude(a, in_a, sizes[0], logarithms, first + row, out[:3])
        _conclude(b, in_b, sizes[1], logarithms, first + row, out[3:])
    return True


def takes(dtype: np.dtype[Any]) -> bool:
    """Whether there is a kernel for values of this dtype; others must be converted to float64 before."""
    return dtype.isnative and dtype.type in _VALUES


def compile() -> None:  # noqa: A001 - the name says what it does
    """Compile every kernel for every dtype, or load the code that is kept already."""
    for _ in compiling():
        pass


def compiling() -> Iterator[None]:
    """Compile the kernels one by one, yielding in between; compiling runs no kernel and starts no thread."""
    numbers, groups, out = types.float64[::1], types.uint8[::1], types.float64[:, ::1]
    for kind in _VALUES:
        value = numba.from_dtype(np.dtype(kind))
        parts = (_read_only(types.int64), _read_only(types.int32), _read_only(value), types.intp)
        of_sparse.compile((*parts, groups, numbers, numbers, numbers, numbers, out))
        yield
        of_dense.compile((_read_only(value, 2), types.intp, groups, numbers, numbers, numbers, numbers, out))
        yield


def _read_only(value: Any, dimensions: int = 1) -> Any:
    """Return numba's type of an array as the matrices hold it: read-only and contiguous."""
    return types.Array(value, dimensions, "C", readonly=True)
