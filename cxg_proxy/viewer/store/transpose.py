"""A sparse matrix by cells becomes one by genes: the compiled loops, and what puts a gene's values in order."""

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
_OWN_BYTES = 24 * 1024**2  # of HDF5, threads and the compiled code
# Blocks of cells of a sparse matrix: no larger than this makes the parts of a gene worth a write, since memory that is
# used again costs less than new memory, and the disk can write one block while the next is turned; yet not too many.
_PART_VALUES = 1 << 10
_BLOCKS = 16
_SIDE = 128  # of the squares a dense block is turned by
_INDEX_BYTES = 4
# What putting repeated values together needs besides, for each value: a sum of int64, a flag, and the result.
_SUMMED_BYTES = 8 + 1 + 2 * (_INDEX_BYTES + 8)


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


def from_dense(source: Source, values: ArrayFile, memory: int, work: Progress, spread: ValueRange) -> None:
    """Write a dense matrix gene after gene.

    It stays dense, even if most of it is 0: cellxgene guesses its distribution with the zeros, sums in another order,
    and whoever wrote it so has needed the memory for it, too.
    """
    cells, size = source.shape[0], source.dtype.itemsize
    most = max(_LEAST_VALUES, (memory - _OWN_BYTES) // (3 * source.stored.itemsize + 2 * size))
    parts = tiles(source.place, most)
    with closing(ahead(lambda part: source.place[part], parts)) as blocks:
        for (rows, columns), stored in zip(parts, blocks, strict=True):
            work.done(stored.nbytes)
            block = stored.astype(source.dtype, copy=False)
            spread.add(block)
            turned = _turned(block)
            genes = np.arange(columns.start, columns.stop, dtype=np.int64)
            bounds = np.arange(len(genes) + 1, dtype=np.int64) * (turned.shape[1] * size)
            values.write_parts(turned, bounds, (genes * cells + rows.start) * size)


def _turned(block: Array) -> Array:
    """The block's transpose, contiguous; square by square, or each value would cost a line of the cache."""
    turned = np.empty(block.shape[::-1], block.dtype)
    for top in range(0, block.shape[0], _SIDE):
        for left in range(0, block.shape[1], _SIDE):
            place = (slice(top, top + _SIDE), slice(left, left + _SIDE))
            turned[place[::-1]] = block[place].T
    return turned


class Sparse:
    """The files of a sparse matrix by columns while they are written; `indptr` is known in the end."""

    def __init__(self, files: tuple[ArrayFile, ArrayFile], memory: int, work: Progress, spread: ValueRange):
        self._files = files  # of the indices, and of the data
        self._memory = memory
        self._kept_bytes = memory // 4  # for indices that would have to be unpacked twice
        self._work = work
        self._spread = spread

    def from_columns(self, matrix: Compressed) -> Array:
        """Write a matrix that is stored by columns: each is put in order; returns where each begins."""
        most = max(_LEAST_VALUES, min(_PIECE_VALUES, self._memory // 4 // (matrix.piece_bytes + _SUMMED_BYTES)))
        counts, done = [np.zeros(1, np.int64)], 0
        with closing(ahead(matrix.all, matrix.spans(most))) as pieces:
            for indptr, indices, data in pieces:
                self._seen(data, len(indices) * matrix.piece_bytes)
                indptr, indices, data = in_order(indptr, indices, data)  # noqa: PLW2901 - the same in order
                for file, array in zip(self._files, (indices, data), strict=True):
                    file.write(array, done * array.itemsize)
                counts.append(np.diff(indptr))
                done += len(indices)
        return np.cumsum(np.concatenate(counts))

    def from_rows(self, source: Source, matrix: Compressed) -> Array:
        """Write a matrix that is stored by rows; returns where each column begins.

        One look at the indices counts what each gene has in each block of cells. Then the blocks, as large as memory
        allows, are read, turned in memory, and each gene's part is written to its place.
        """
        piece = max(_LEAST_VALUES, min(_PIECE_VALUES, self._memory // 16 // matrix.piece_bytes))
        most = self._block_values(source, matrix, piece)
        blocks, counts, repeated = self._counted(matrix, most, piece, source.shape[1])
        if repeated.any():  # to put those together takes more memory
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
        self._work.done(size)
        self._spread.add(data)
        if data.dtype.kind == "f":
            data += 0  # no -0.0, as there is none once SciPy has made such values dense

    def _block_values(self, source: Source, matrix: Compressed, piece: int) -> int:
        """How many values a block may have."""
        kept = self._kept_bytes if matrix.is_packed else 0
        used = kept + 3 * piece * matrix.piece_bytes + 2 * matrix.indptr.nbytes + source.shape[1] * 80 + _OWN_BYTES
        most = (self._memory - used) * 95 // 100 // (_INDEX_BYTES + source.dtype.itemsize)
        return max(piece, min(most, max(source.shape[1] * _PART_VALUES, matrix.size // _BLOCKS)))

    def _counted(self, matrix: Compressed, most: int, piece: int, genes: int) -> tuple[list[Span], Array, Array]:
        """The blocks, how many values each gene has in each, and how often a gene is repeated in the same cell."""
        matrix.keep(self._kept_bytes)
        blocks = matrix.spans(most)
        counts = np.zeros((len(blocks), genes), np.int32)
        last, repeated = np.full(genes, -1, np.int32), np.zeros(genes, np.int64)
        parts = [(place, span) for place, block in enumerate(blocks) for span in matrix.spans(piece, block)]
        with closing(ahead(lambda part: matrix.indices(part[1]), parts)) as pieces:
            for (place, span), (indptr, indices) in zip(parts, pieces, strict=True):
                count(indptr, indices, span[0], last, counts[place], repeated)
                self._work.done(len(indices) * matrix.index_bytes)
        return blocks, counts, repeated

    def _write(self, columns: tuple[Array, Array, Array], following: Array) -> None:
        """Write each column's part where the column goes on; both files at once."""
        bounds = columns[0]
        whole = np.array_equal(following, bounds[:-1])  # nothing comes between them

        def write(file: ArrayFile, array: Array) -> None:
            if whole:
                file.write(array[: bounds[-1]], 0)
            else:
                file.write_parts(array, bounds * array.itemsize, following * array.itemsize)

        with ThreadPoolExecutor(2, "write") as writers:
            for done in [writers.submit(write, *pair) for pair in zip(self._files, columns[1:], strict=True)]:
                done.result()


class _Turn:
    """Turns block after block of rows, in the same memory."""

    def __init__(self, matrix: Compressed, piece: int, cells: Array, values: Array):
        self._matrix = matrix
        self._piece = piece
        self._cells, self._values = cells, values

    def block(self, block: Span, count: Array, seen: Callable[[Array, int], None]) -> tuple[Array, Array, Array]:
        """The block by columns: where each begins, the cells' numbers, the values. `count` is what each gene has."""
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
