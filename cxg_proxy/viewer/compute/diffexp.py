"""Differential expression as cellxgene defines it, read gene by gene: never dense, on every core, and cancellable.

The definition is exactly that of cellxgene's `server/common/compute/diffexp_generic.py`. It computes Welch's t for
every gene, except that both variances are divided by the size of the *smaller* group. It returns the genes with the
highest and the lowest t, among those whose means differ by more than a cutoff if there are enough of these. The p-value
is from Student's distribution, and its adjustment is Bonferroni's. Mean and variance are those of log(1 + value) if
the values are counts. Where cellxgene computes in float32, this module uses float64.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cxg_proxy.viewer.progress import Cancelled
from cxg_proxy.viewer.store.matrix import Array, Damaged, Dense, Matrix, Sparse

from . import kernels

Floats: TypeAlias = NDArray[np.float64]

_BLOCK_VALUES = 2**20  # values read between two checks of `cancelled`: a few milliseconds
_SCRATCH_BYTES = 96 * 2**20  # of all threads together
_LOGARITHMS = 1024  # counts below this take their logarithm from a table


@dataclass(frozen=True)
class Group:
    """The statistics of one group of cells: its size, and the mean and variance of each gene, float64 (genes)."""

    cells: int
    mean: Floats
    variance: Floats


def compare(  # noqa: PLR0917 - cellxgene's order of arguments
    matrix: Matrix,
    distribution: str,
    mask_a: NDArray[np.bool_],
    mask_b: NDArray[np.bool_],
    top_n: int,
    lfc_cutoff: float,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    cores: int | None = None,
) -> dict[str, list[list[Any]]]:
    """Compare two groups of cells, given as masks (bool, one for each cell), which may overlap but not be empty.

    `distribution` is "count", or "normal" for values that are logarithms already. `cores` is the number of threads;
    None uses every core that the process may use. Returns, under "positive" and "negative", at most `top_n` lists of
    gene number, difference of means, p and adjusted p. Raises Cancelled soon after `cancelled()` becomes true, and
    Damaged if the matrix contradicts itself.
    """
    a, b = groups(matrix, distribution, mask_a, mask_b, cancelled=cancelled, cores=cores)
    return ranked(a, b, top_n, lfc_cutoff)


def groups(
    matrix: Matrix,
    distribution: str,
    mask_a: NDArray[np.bool_],
    mask_b: NDArray[np.bool_],
    *,
    cancelled: Callable[[], bool] = lambda: False,
    cores: int | None = None,
) -> tuple[Group, Group]:
    """Compute each gene's mean and variance in both groups, in one pass over the matrix.

    Takes the arguments and raises the errors of `compare`.
    """
    one = _Pass(matrix, distribution, mask_a, mask_b)

    def process(block: tuple[int, int]) -> None:
        if cancelled():
            raise Cancelled
        try:
            one.look(*block)
        finally:
            matrix.give_back(*block)

    threads = max(1, min(cores or len(os.sched_getaffinity(0)), _SCRATCH_BYTES // one.scratch_bytes))
    with ThreadPoolExecutor(threads, thread_name_prefix="diffexp") as pool:
        for _ in pool.map(process, _blocks(matrix)):
            pass
    return one.groups()


class _Pass:
    """One pass over the matrix: the data that all of its blocks share."""

    def __init__(self, matrix: Matrix, distribution: str, mask_a: NDArray[np.bool_], mask_b: NDArray[np.bool_]):
        self._matrix = matrix
        self._members = mask_a * np.uint8(kernels.IN_A) | mask_b * np.uint8(kernels.IN_B)
        self._sizes = int(np.count_nonzero(mask_a)), int(np.count_nonzero(mask_b))
        self._logarithms = np.log1p(np.arange(_LOGARITHMS if distribution == "count" else 0, dtype=np.float64))
        self._statistics = np.empty((kernels.ROWS, matrix.shape[1]))
        self.scratch_bytes = 8 * (sum(self._sizes) + 2)

    def look(self, first: int, last: int) -> None:
        """Process the genes from `first` up to, not including, `last`; raises Damaged."""
        a, b = (np.empty(size + 1) for size in self._sizes)
        how = (first, self._members, np.array(self._sizes, np.float64), self._logarithms, a, b, self._statistics)
        if isinstance(self._matrix, Dense):
            kernels.of_dense(_compilable(self._matrix.values.T[first:last]), *how)
            return
        indptr = self._matrix.indptr[first : last + 1]
        block = slice(indptr[0], indptr[-1])
        data = _compilable(self._matrix.data[block])
        if not kernels.of_sparse(indptr, self._matrix.indices[block], data, *how):
            raise Damaged("it names cells that are not there, or one twice")

    def groups(self) -> tuple[Group, Group]:
        """Return the statistics of both groups, once every gene has been processed."""
        half, dense = kernels.ROWS // 2, isinstance(self._matrix, Dense)
        first, second = self._statistics[:half], self._statistics[half:]
        return _group(self._sizes[0], first, dense), _group(self._sizes[1], second, dense)


def _compilable(values: Array) -> Array:
    """Return the values as the compiled code takes them: unchanged, or a converted copy of this block."""
    if not kernels.takes(values.dtype):
        values = values.astype(np.float64)
    values = np.ascontiguousarray(values)
    values.flags.writeable = False
    return values


def _blocks(matrix: Matrix) -> Iterator[tuple[int, int]]:
    """Iterate over ranges of genes with about `_BLOCK_VALUES` values each."""
    cells, genes = matrix.shape
    if isinstance(matrix, Sparse):
        wanted = np.arange(_BLOCK_VALUES, len(matrix.data), _BLOCK_VALUES)
        cuts = np.unique(np.searchsorted(matrix.indptr, wanted)).tolist()
    else:
        width = max(1, _BLOCK_VALUES // cells)
        cuts = list(range(width, genes, width))
    return zip([0, *cuts], [*cuts, genes], strict=True)


def _group(cells: int, statistics: Floats, dense: bool) -> Group:
    """Return the group with NaN replaced by 0 as cellxgene does; infinities stay unless NumPy would have complained.

    In cellxgene NumPy complains, once for all genes, when it divides 0 by 0 (a group of one cell), takes log(1 + value)
    of a value of -1 or less, subtracts an infinite mean from an infinite value, or, in a dense matrix, adds infinities
    of both signs. It is silent if a NaN comes before these, which is not followed here.
    """
    mean, squares = statistics[kernels.MEAN], statistics[kernels.SQUARES]
    oddities = statistics[kernels.ODDITIES].astype(np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = squares / (cells - 1)
    both = kernels.PLUS_INFINITY | kernels.MINUS_INFINITY
    complained = cells == 1 or bool(
        np.any(oddities & kernels.NO_LOGARITHM)
        or np.any(np.isinf(mean) & (oddities & both > 0))
        or (dense and np.any(oddities & both == both))
    )
    for values in (mean, variance):
        values[~np.isfinite(values) if complained else np.isnan(values)] = 0
    return Group(cells, mean, variance)


def ranked(a: Group, b: Group, top_n: int, lfc_cutoff: float) -> dict[str, list[list[Any]]]:
    """Return the genes that differ most between two groups, with arguments and result as in `compare`.

    The formula is that of cellxgene's `server/common/compute/diffexp_generic.py`.
    """
    smaller, genes = min(a.cells, b.cells), len(a.mean)
    fold = a.mean - b.mean
    with np.errstate(all="ignore"):
        share_a, share_b = a.variance / smaller, b.variance / smaller
        both = share_a + share_b
        freedom = both**2 / (share_a**2 / (a.cells - 1) + share_b**2 / (b.cells - 1))
        t = fold / np.sqrt(both)
    freedom[np.isnan(freedom)] = 1
    t[np.isnan(t)] = 0
    order = _order(t, np.abs(fold) > lfc_cutoff, top_n)
    p = stats.t.sf(np.abs(t[order]), freedom[order]) * 2
    rows = [
        list(row)
        for row in zip(*map(np.ndarray.tolist, (order, fold[order], p, np.minimum(p * genes, 1))), strict=True)
    ]
    return {"positive": rows[:top_n], "negative": rows[::-1][:top_n]}


def _order(t: Floats, differing: NDArray[np.bool_], top_n: int) -> NDArray[np.intp]:
    """Return the genes with the `top_n` highest and the `top_n` lowest t, by falling t.

    Only genes marked in `differing` count if there are more than 2 * `top_n` of these.
    """
    among = np.flatnonzero(differing)
    if len(among) <= top_n * 2:
        among = np.arange(len(t))
    ends = among
    if top_n < len(t):  # otherwise cellxgene fails
        parted = np.argpartition(t[among], (top_n, -top_n))
        ends = among[np.concatenate((parted[-top_n:], parted[:top_n]))]
    order: NDArray[np.intp] = ends[np.argsort(t[ends])[::-1]]
    return order
