"""The transpose of a matrix from cells to genes, written to the files of a store block by block.

`in_order` sorts and sums the values of a gene, and the loops over single values are compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxg_proxy.errors import ChangedMeanwhile
from cxg_proxy.viewer.numba_cache import compiled
from cxg_proxy.viewer.progress import Progress
from cxg_proxy.viewer.source.chunks import Compressed, Span, ahead, tiles
from cxg_proxy.viewer.source.matrix import Source

from .array_files import ArrayFile
from .value_range import ValueRange

Array = NDArray[Any]

_PIECE_VALUES = 1 << 21  # small enough for a processor's cache, large enough for a disk
_LEAST_VALUES = 1 << 8
_OWN_BYTES = 24 * 1024**2  # memory of HDF5, threads and the compiled code
# A block of cells of a sparse matrix is only as large as makes each gene's part worth a write, since reused memory
# costs less than new memory, and the disk can write one block while the next is transposed; yet, memory allowing, there
# are no more than about `_BLOCKS` blocks.
_PART_VALUES = 1 << 10
_BLOCKS = 16
_SIDE = 128  # of the squares in which a dense block is transposed
_INDEX_BYTES = 4
# The further memory for summing repeated values, for each value: an int64 sum, a flag, and the result.
_SUMMED_BYTES = 8 + 1 + 2 * (_INDEX_BYTES + 8)


@compiled
def count(indptr, indices, first, last, counts, repeated):  # type: ignore[no-untyped-def]  # noqa: PLR0917 - numba infers the types, and takes no keyword arguments
    """Count each gene's values in a range of cells that begins with cell `first`, and how often a cell repeats a gene.

    indptr is int64 (cells + 1) and begins with 0; indices is int32, all below len(counts). `last`, int32 (genes), holds
    the last cell with a value of the gene, -1 at first. The results are added to counts and repeated, integer (genes).
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
    """Copy the values of each cell to the places that `following` (int64, genes) gives for the next value of a gene.

    `bits` holds the values as unsigned integers of their size, and `values` has the same dtype; `cells`, int32,
    receives the numbers of the cells. Returns False at the first place that lies outside the arrays, else True.
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
    """Whether the indices (int32) rise within each row of indptr (int64) without repeating."""
    for row in range(len(indptr) - 1):
        for place in range(indptr[row] + 1, indptr[row + 1]):
            if indices[place] <= indices[place - 1]:
                return False
    return True


def as_bits(values: Array) -> Array:
    """View the values as unsigned integers of their size, so that the loops are compiled for only two dtypes."""
    return values.view(f"u{values.dtype.itemsize}")


def in_order(indptr: Array, indices: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return the columns with rising indices, summing the values of a repeated index.

    The sum is that of SciPy's `toarray`: in stored order, in the dtype of the values, beginning with 0. The arrays
    given may be changed.
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
    new = np.ones(len(indices), bool)  # whether a value is the first with its index in its column
    np.not_equal(indices[1:], indices[:-1], out=new[1:])
    starts = indptr[:-1]
    new[starts[starts < len(new)]] = True
    target = np.cumsum(new) - 1
    total = np.zeros(int(new.sum()), values.dtype)
    np.add.at(total, target, values)
    ends = np.concatenate(([0], np.cumsum(new)))[indptr]
    return ends, indices[new], total


def from_dense(source: Source, values: ArrayFile, memory: int, progress: Progress, spread: ValueRange) -> None:
    """Write a dense matrix gene after gene, and add its values to `spread`.

    It stays dense even if most values are 0: cellxgene counts the zeros when it guesses the distribution and sums
    dense values in another order, and the author of the file needed as much memory for it.
    """
    cells, size = source.shape[0], source.dtype.itemsize
    most = max(_LEAST_VALUES, (memory - _OWN_BYTES) // (3 * source.stored.itemsize + 2 * size))
    parts = tiles(source.place, most)
    with closing(ahead(lambda part: source.place[part], parts)) as blocks:
        for (rows, columns), stored in zip(parts, blocks, strict=True):
            progress.advance(stored.nbytes)
            block = stored.astype(source.dtype, copy=False)
            spread.add(block)
            turned = _turned(block)
            genes = np.arange(columns.start, columns.stop, dtype=np.int64)
            bounds = np.arange(len(genes) + 1, dtype=np.int64) * (turned.shape[1] * size)
            values.write_parts(turned, bounds, (genes * cells + rows.start) * size)


def _turned(block: Array) -> Array:
    """Return the block's contiguous transpose, made square by square, or each value would cost a cache line."""
    turned = np.empty(block.shape[::-1], block.dtype)
    for top in range(0, block.shape[0], _SIDE):
        for left in range(0, block.shape[1], _SIDE):
            place = (slice(top, top + _SIDE), slice(left, left + _SIDE))
            turned[place[::-1]] = block[place].T
    return turned


class Sparse:
    """The files of a sparse matrix by columns while they are written; its `indptr` is known only in the end."""

    def __init__(self, files: tuple[ArrayFile, ArrayFile], memory: int, progress: Progress, spread: ValueRange):
        self._files = files  # of the indices and of the data
        self._memory = memory
        self._kept_bytes = memory // 4  # for indices that would otherwise be unpacked twice
        self._progress = progress
        self._spread = spread

    def from_columns(self, matrix: Compressed) -> Array:
        """Write a matrix stored by columns, each put in order; return where each begins, int64 (genes + 1)."""
        most = max(_LEAST_VALUES, min(_PIECE_VALUES, self._memory // 4 // (matrix.piece_bytes + _SUMMED_BYTES)))
        counts, done = [np.zeros(1, np.int64)], 0
        with closing(ahead(matrix.all, matrix.spans(most))) as pieces:
            for indptr, indices, data in pieces:
                self._seen(data, len(indices) * matrix.piece_bytes)
                indptr, indices, data = in_order(indptr, indices, data)  # noqa: PLW2901 - the same values in order
                for file, array in zip(self._files, (indices, data), strict=True):
                    file.write(array, done * array.itemsize)
                counts.append(np.diff(indptr))
                done += len(indices)
        return np.cumsum(np.concatenate(counts))

    def from_rows(self, source: Source, matrix: Compressed) -> Array:
        """Write a matrix stored by rows; return where each column begins, int64 (genes + 1).

        A first pass over the indices counts the values of each gene in each block of cells. A second pass reads the
        blocks, which are as large as memory allows, transposes them in memory, and writes each gene's part to its
        place. Raises ChangedMeanwhile if the two passes contradict each other.
        """
        piece = max(_LEAST_VALUES, min(_PIECE_VALUES, self._memory // 16 // matrix.piece_bytes))
        most = self._block_values(source, matrix, piece)
        blocks, counts, repeated = self._counted(matrix, most, piece, source.shape[1])
        if repeated.any():  # summing the repeated values takes more memory
            most = max(piece, most * (_INDEX_BYTES + source.dtype.itemsize) // (16 + _SUMMED_BYTES))
            blocks, counts, repeated = self._counted(matrix, most, piece, source.shape[1])
        starts = np.concatenate(([0], np.cumsum(counts.sum(axis=0) - repeated)))
        largest = max(matrix.values(block) for block in blocks)
        turn = _Turn(matrix, piece, np.empty(largest, np.int32), np.empty(largest, source.dtype))
        following = starts[:-1].copy()
        for block, count in zip(blocks, counts, strict=True):
            columns = turn.block(block, count, self._seen)
            if repeated.any():
                columns = in_order(*columns)
            self._write(columns, following)
            following += np.diff(columns[0])
        if not np.array_equal(following, starts[1:]):
            raise ChangedMeanwhile(matrix.which)
        return starts

    def _seen(self, data: Array, size: int) -> None:
        self._progress.advance(size)
        self._spread.add(data)
        if data.dtype.kind == "f":
            data += 0  # turns -0.0 into 0.0, as SciPy does when it makes such values dense

    def _block_values(self, source: Source, matrix: Compressed, piece: int) -> int:
        """Return how many values a block may have."""
        kept_bytes = self._kept_bytes if matrix.is_packed else 0
        used = (
            kept_bytes + 3 * piece * matrix.piece_bytes + 2 * matrix.indptr.nbytes + source.shape[1] * 80 + _OWN_BYTES
        )
        most = (self._memory - used) * 95 // 100 // (_INDEX_BYTES + source.dtype.itemsize)
        return max(piece, min(most, max(source.shape[1] * _PART_VALUES, matrix.size // _BLOCKS)))

    def _counted(self, matrix: Compressed, most: int, piece: int, genes: int) -> tuple[list[Span], Array, Array]:
        """Return the blocks, the number of each gene's values in each, and how often cells repeat each gene."""
        matrix.keep(self._kept_bytes)
        blocks = matrix.spans(most)
        counts = np.zeros((len(blocks), genes), np.int32)
        last, repeated = np.full(genes, -1, np.int32), np.zeros(genes, np.int64)
        parts = [(place, span) for place, block in enumerate(blocks) for span in matrix.spans(piece, block)]
        with closing(ahead(lambda part: matrix.indices(part[1]), parts)) as pieces:
            for (place, span), (indptr, indices) in zip(parts, pieces, strict=True):
                count(indptr, indices, span[0], last, counts[place], repeated)
                self._progress.advance(len(indices) * matrix.index_bytes)
        return blocks, counts, repeated

    def _write(self, columns: tuple[Array, Array, Array], following: Array) -> None:
        """Write each column's part where the column continues, to both files at once."""
        bounds = columns[0]
        whole = np.array_equal(following, bounds[:-1])  # the parts follow each other in the file

        def write(file: ArrayFile, array: Array) -> None:
            if whole:
                file.write(array[: bounds[-1]], 0)
            else:
                file.write_parts(array, bounds * array.itemsize, following * array.itemsize)

        with ThreadPoolExecutor(2, "write") as writers:
            for done in [writers.submit(write, *pair) for pair in zip(self._files, columns[1:], strict=True)]:
                done.result()


class _Turn:
    """The transposition of one block of rows after the other, reusing the memory."""

    def __init__(self, matrix: Compressed, piece: int, cells: Array, values: Array):
        self._matrix = matrix
        self._piece = piece
        self._cells, self._values = cells, values

    def block(self, block: Span, count: Array, seen: Callable[[Array, int], None]) -> tuple[Array, Array, Array]:
        """Return the block by columns: where each begins (int64), the numbers of the cells (int32), and the values.

        `count` is the number of each gene's values in the block. Raises ChangedMeanwhile if the block contradicts it.
        """
        indptr = np.concatenate(([0], np.cumsum(count)))
        cells, values = self._cells[: indptr[-1]], self._values[: indptr[-1]]
        following, whole = indptr[:-1].copy(), True
        spans = self._matrix.spans(self._piece, block)
        with closing(ahead(self._matrix.all, spans)) as pieces:
            for span, (rows, indices, data) in zip(spans, pieces, strict=True):
                seen(data, len(indices) * (self._matrix.piece_bytes))
                bits = as_bits(data), as_bits(values)
                whole &= scatter(rows, indices, bits[0], span[0], following, cells, bits[1])
        if not whole or not np.array_equal(following, indptr[1:]):
            raise ChangedMeanwhile(self._matrix.which)
        return indptr, cells, values
