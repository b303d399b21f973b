"""The expression matrix by columns, in memory or mapped from a file, since the viewer reads it gene by gene."""

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

# Linux also maps the surroundings of a page: 64 KiB, and every large page (2 MiB) of its cache that these reach into.
_AROUND, _LARGE = 1 << 16, 1 << 21


class Damaged(Exception):
    """The parts of a matrix contradict each other."""


@dataclass(frozen=True, eq=False)
class Sparse:
    """A matrix of cells x genes that stores only some values; the others are 0.

    The values of gene g are `data[indptr[g]:indptr[g + 1]]`, and `indices` holds their cells in the same range, rising
    within a gene, so that no cell occurs twice. The arrays may be mapped from files; they are neither copied nor
    written to. Raises Damaged if their lengths contradict each other.
    """

    shape: tuple[int, int]
    indptr: Array  # int64, genes + 1
    indices: Array  # int32, rising within a gene
    data: Array  # float32, float64, or integers of 32 or 64 bits

    def __post_init__(self) -> None:
        _shelter(self, "C", "indptr", "indices", "data")
        starts = self.indptr
        if len(starts) != self.shape[1] + 1 or starts[0] or not len(self.indices) == len(self.data) == starts[-1]:
            raise Damaged("its parts are not of the same length")
        if np.any(starts[1:] < starts[:-1]):
            raise Damaged("a gene ends before it begins")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.data.dtype

    def columns(self, genes: NDArray[np.intp]) -> Array:
        """Return the values of these genes: cells x len(genes), in Fortran order and the matrix's dtype.

        Raises Damaged if the matrix names a cell that it does not have.
        """
        values = np.zeros((self.shape[0], len(genes)), self.dtype, order="F")
        for place, gene in enumerate(genes):
            cells, stored = self._column(gene)
            with _checked():
                values[cells, place] = stored
            give_back(cells, stored)
        return values

    def mean(self, genes: NDArray[np.intp]) -> Array:
        """Return each cell's mean of these genes, cells x 1: float64 for integers, else the matrix's dtype.

        The sum is float64, hence more exact than SciPy's mean, which rounds each step to the dtype of the values.
        Raises Damaged if the matrix names a cell that it does not have.
        """
        total = np.zeros(self.shape[0])
        for gene in genes:
            cells, values = self._column(gene)
            with _checked():  # with these dtypes `add.at` is three times as fast as `total[cells] += values`
                np.add.at(total, cells.astype(np.intp), values.astype(np.float64))
            give_back(cells, values)
        return _mean(total, len(genes), self.dtype)

    def give_back(self, first: int, last: int) -> None:
        """Release the memory of the genes from `first` up to, not including, `last`, if they are mapped from a file."""
        block = slice(self.indptr[first], self.indptr[last])
        give_back(self.indices[block], self.data[block])

    def _column(self, gene: Any) -> tuple[Array, Array]:
        place = slice(self.indptr[gene], self.indptr[gene + 1])
        return self.indices[place].view(np.uint32), self.data[place]  # NumPy would count negative ones from the end


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix of cells x genes that stores every value, preferably in Fortran order: gene after gene."""

    values: Array

    def __post_init__(self) -> None:
        _shelter(self, "K", "values")

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of cells and genes."""
        cells, genes = self.values.shape
        return cells, genes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    def columns(self, genes: NDArray[np.intp]) -> Array:
        """Return the values of these genes, as `Sparse.columns` does."""
        values = np.empty((self.shape[0], len(genes)), self.dtype, order="F")
        for place, gene in enumerate(genes):
            values[:, place] = self.values[:, gene]
            self.give_back(gene, gene + 1)
        return values

    def mean(self, genes: NDArray[np.intp]) -> Array:
        """Return each cell's mean of these genes, as `Sparse.mean` does."""
        total = np.zeros(self.shape[0])
        for gene in genes:
            total += self.values[:, gene]
            self.give_back(gene, gene + 1)
        return _mean(total, len(genes), self.dtype)

    def give_back(self, first: int, last: int) -> None:
        """Release the memory of the genes from `first` up to, not including, `last`, if they are mapped from a file."""
        give_back(self.values[:, first:last])


Matrix: TypeAlias = Sparse | Dense


def of(values: Any) -> Matrix:
    """Return the matrix of an AnnData's X in memory, sharing its arrays where X is dense or stored by columns."""
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
    """Raise Damaged where NumPy meets a cell that the matrix does not have."""
    try:
        yield
    except IndexError as error:
        raise Damaged("it names cells that are not there") from error


def _shelter(matrix: Any, order: Literal["C", "K"], *names: str) -> None:
    """Replace the arrays by plain read-only views, so that compiled code meets only one kind of array."""
    for name in names:
        view = np.asarray(getattr(matrix, name), order=order).view()
        view.flags.writeable = False
        object.__setattr__(matrix, name, view)


def give_back(*arrays: NDArray[Any]) -> None:
    """Release the memory pages of mapped arrays; reading such an array later maps its pages again."""
    for array in arrays:
        held = _mapping(array)
        if held is not None and array.nbytes:
            begin = _address(array) - _address(np.frombuffer(held, np.uint8))
            first = max(0, begin - _AROUND) // _LARGE * _LARGE
            end = min(len(held), -(-(begin + array.nbytes + _AROUND) // _LARGE) * _LARGE)
            held.madvise(mmap.MADV_DONTNEED, first, end - first)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """Return the mapped file that an array is part of, if it is read-only: other pages would lose their changes."""
    holder: Any = array
    while isinstance(holder, np.ndarray) and not holder.flags.writeable:
        holder = holder.base
    if isinstance(holder, memoryview):
        holder = holder.obj
    return holder if isinstance(holder, mmap.mmap) else None


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
