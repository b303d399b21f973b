"""The expression matrix by columns, in memory or mapped from a file: what the viewer asks is asked gene by gene."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array: TypeAlias = NDArray[Any]

# Linux maps what is around a page, too: 64 KB, and all of the large page of its cache that this reaches into.
_AROUND, _LARGE = 1 << 16, 1 << 21


class Damaged(Exception):
    """The parts of a matrix contradict each other."""


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix of cells x genes of which only some values are written down, the others being 0.

    The values of gene g are `data[indptr[g]:indptr[g + 1]]`, those of the cells `indices[...]` of the same range, which
    rise within a gene: no cell twice. The arrays may be mapped from files; they are neither copied nor written to.
    """

    shape: tuple[int, int]
    indptr: Array  # int64, one more than genes
    indices: Array  # int32, rising within a gene
    data: Array  # float32, float64 or whole numbers of 32 or 64 bit

    def __post_init__(self) -> None:
        _shelter(self, "C", "indptr", "indices", "data")
        starts = self.indptr
        if len(starts) != self.shape[1] + 1 or starts[0] or not len(self.indices) == len(self.data) == starts[-1]:
            raise Damaged("its parts are not of the same length")
        if np.any(starts[1:] < starts[:-1]):
            raise Damaged("a gene ends before it begins")

    @property
    def dtype(self) -> np.dtype[Any]:
        """What a value is."""
        return self.data.dtype

    def columns(self, genes: NDArray[np.intp]) -> Array:
        """The values of these genes in every cell, cells x len(genes), in Fortran order and of the matrix's dtype."""
        values = np.zeros((self.shape[0], len(genes)), self.dtype, order="F")
        for place, gene in enumerate(genes):
            cells, there = self._column(gene)
            with _checked():
                values[cells, place] = there
            give_back(cells, there)
        return values

    def mean(self, genes: NDArray[np.intp]) -> Array:
        """Each cell's mean of these genes, cells x 1: float64 for whole numbers, else of the matrix's dtype.

        Summed in float64, so nearer to the truth than SciPy's mean, which rounds each step as it stores values.
        """
        total = np.zeros(self.shape[0])
        for gene in genes:
            cells, values = self._column(gene)
            with _checked():  # with these types `add.at` is three times as fast as `total[cells] += values`
                np.add.at(total, cells.astype(np.intp), values.astype(np.float64))
            give_back(cells, values)
        return _mean(total, len(genes), self.dtype)

    def give_back(self, first: int, last: int) -> None:
        """Have the genes from `first` to before `last` take no memory any more, where they are mapped from a file."""
        block = slice(self.indptr[first], self.indptr[last])
        give_back(self.indices[block], self.data[block])

    def _column(self, gene: Any) -> tuple[Array, Array]:
        place = slice(self.indptr[gene], self.indptr[gene + 1])
        return self.indices[place].view(np.uint32), self.data[place]  # below 0 NumPy would count from the end


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix of cells x genes with every value written down, best in Fortran order: gene after gene."""

    values: Array

    def __post_init__(self) -> None:
        _shelter(self, "K", "values")

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, genes."""
        cells, genes = self.values.shape
        return cells, genes

    @property
    def dtype(self) -> np.dtype[Any]:
        """What a value is."""
        return self.values.dtype

    def columns(self, genes: NDArray[np.intp]) -> Array:
        """The values of these genes in every cell, as `Sparse.columns`."""
        values = np.empty((self.shape[0], len(genes)), self.dtype, order="F")
        for place, gene in enumerate(genes):
            values[:, place] = self.values[:, gene]
            self.give_back(gene, gene + 1)
        return values

    def mean(self, genes: NDArray[np.intp]) -> Array:
        """Each cell's mean of these genes, as `Sparse.mean`."""
        total = np.zeros(self.shape[0])
        for gene in genes:
            total += self.values[:, gene]
            self.give_back(gene, gene + 1)
        return _mean(total, len(genes), self.dtype)

    def give_back(self, first: int, last: int) -> None:
        """Have the genes from `first` to before `last` take no memory any more, where they are mapped from a file."""
        give_back(self.values[:, first:last])


Matrix: TypeAlias = Sparse | Dense


def of(values: Any) -> Matrix:
    """The matrix of what AnnData holds in memory as X: shared with it where it is stored by columns or dense."""
    if not sparse.issparse(values):
        return Dense(np.asarray(values))
    columns = values.tocsc()
    if not columns.has_canonical_format:
        columns = columns.copy() if columns is values else columns
        columns.sum_duplicates()
    cells, genes = columns.shape
    return Sparse(
        (cells, genes),
        columns.indptr.astype(np.int64, copy=False),
        columns.indices.astype(np.int32, copy=False),
        columns.data,
    )


def _mean(total: NDArray[np.float64], count: int, dtype: np.dtype[Any]) -> Array:
    kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
    return (total / count).astype(kind, copy=False)[:, np.newaxis]


@contextmanager
def _checked() -> Iterator[None]:
    """NumPy looks whether each cell is there."""
    try:
        yield
    except IndexError as error:
        raise Damaged("it names cells that are not there") from error


def _shelter(matrix: Any, order: Literal["C", "K"], *names: str) -> None:
    """Have plain views that nobody can write to, whatever was given: one kind of array for compiled code."""
    for name in names:
        view = np.asarray(getattr(matrix, name), order=order).view()
        view.flags.writeable = False
        object.__setattr__(matrix, name, view)


def give_back(*arrays: NDArray[Any]) -> None:
    """Give back the pages that arrays lie on; who looks at one meanwhile just has it mapped again."""
    for array in arrays:
        held = _mapping(array)
        if held is not None and array.nbytes:
            begin = _address(array) - _address(np.frombuffer(held, np.uint8))
            first = max(0, begin - _AROUND) // _LARGE * _LARGE
            end = min(len(held), -(-(begin + array.nbytes + _AROUND) // _LARGE) * _LARGE)
            held.madvise(mmap.MADV_DONTNEED, first, end - first)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """What an array is a part of, if that is a file that cannot be written to: of others, it would lose what is new."""
    holder: Any = array
    while isinstance(holder, np.ndarray) and not holder.flags.writeable:
        holder = holder.base
    if isinstance(holder, memoryview):
        holder = holder.obj
    return holder if isinstance(holder, mmap.mmap) else None


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
