"""Chunks of the matrix in an .h5ad file, read in bounded memory, each while the previous one is processed."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxg_proxy.errors import DamagedFile

from .matrix import Source

Array = NDArray[Any]
Span = tuple[int, int]
_SHORT = 1 << 16  # indices below this fit in two bytes
_Wanted = TypeVar("_Wanted")
_Piece = TypeVar("_Piece")


class Compressed:
    """A sparse matrix as the file stores it, read in ranges of its rows (CSR) or columns (CSC), here called lines.

    Raises DamagedFile about `which` if the parts of the matrix contradict each other.
    """

    def __init__(self, source: Source, which: str):
        self.which = which
        self._dtype = source.dtype
        self._length = source.shape[1] if source.kind == "csr" else source.shape[0]
        self._indices, self._data = source.place["indices"], source.place["data"]
        self._kept: dict[Span, Array] = {}
        self._room = 0
        self.indptr = self._checked(source.place["indptr"][...].astype(np.int64), source)

    @property
    def index_bytes(self) -> int:
        """The bytes that one index takes in the file when it is not compressed."""
        return int(self._indices.dtype.itemsize)

    @property
    def piece_bytes(self) -> int:
        """The bytes of memory that one value of a piece takes while it is read."""
        return self.index_bytes + 4 + int(self._data.dtype.itemsize) + self._dtype.itemsize

    @property
    def is_packed(self) -> bool:
        """Whether reading the indices takes longer than copying them."""
        return is_packed(self._indices)

    @property
    def size(self) -> int:
        """The number of stored values."""
        return int(self.indptr[-1] - self.indptr[0])

    def spans(self, most: int, within: Span | None = None) -> list[Span]:
        """Return ranges of lines with at most `most` values each; a line that has more gets its own range."""
        first, end = within or (0, len(self.indptr) - 1)
        found = []
        while first < end:
            limit = np.searchsorted(self.indptr, self.indptr[first] + most, side="right") - 1
            last = min(end, max(first + 1, int(limit)))
            found.append((first, last))
            first = last
        return found

    def keep(self, room: int) -> None:
        """Let `indices` keep up to `room` bytes of what it reads, until it is read again; drop what was kept before.

        Only packed indices are kept: the operating system caches the others.
        """
        self._kept.clear()
        self._room = room if self.is_packed else 0

    def values(self, span: Span) -> int:
        """Return the number of values in a range of lines."""
        return int(self.indptr[span[1]] - self.indptr[span[0]])

    def indices(self, span: Span) -> tuple[Array, Array]:
        """Return where each line of the range begins (int64, from 0) and its indices (int32).

        Raises DamagedFile for an index outside the matrix.
        """
        indptr = self.indptr[span[0] : span[1] + 1]
        indices = self._kept.pop(span, None)
        if indices is None:
            indices = self._indices[indptr[0] : indptr[-1]]
            if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self._length:
                raise DamagedFile(self.which, detail="its matrix has values outside its own shape")
            self._keep(span, indices)
        return indptr - indptr[0], indices.astype(np.int32, copy=False)

    def _keep(self, span: Span, indices: Array) -> None:
        size = len(indices) * (2 if self._length <= _SHORT else 4)
        if size <= self._room:
            self._room -= size
            self._kept[span] = indices.astype(np.uint16 if self._length <= _SHORT else np.int32)

    def all(self, span: Span) -> tuple[Array, Array, Array]:
        """Return what `indices` returns, and the values in the viewer's dtype."""
        indptr, indices = self.indices(span)
        first = self.indptr[span[0]]
        data = self._data[first : first + len(indices)]
        return indptr, indices, data.astype(self._dtype, copy=False)

    def _checked(self, indptr: Array, source: Source) -> Array:
        lines = source.shape[0] if source.kind == "csr" else source.shape[1]
        there = min(len(self._indices), len(self._data))
        if len(indptr) != lines + 1 or indptr[0] < 0 or indptr[-1] > there or np.any(np.diff(indptr) < 0):
            raise DamagedFile(self.which, detail="the parts of its matrix do not fit each other")
        return indptr


def tiles(place: Any, most: int) -> list[tuple[slice, slice]]:
    """Return the parts in which to read a dense dataset, of at most `most` values each.

    They end where HDF5's chunks end, so that no chunk is unpacked twice. A compressed chunk can only be read whole,
    however large it is.
    """
    cells, genes = place.shape
    height, width = place.chunks or (1, genes)
    if height * width > most and not is_packed(place):
        height, width = 1, genes
    if height * genes <= most:
        height, width = most // genes // height * height, genes
    else:
        width = max(1, most // height // width) * width
    return [
        (slice(top, min(cells, top + height)), slice(left, min(genes, left + width)))
        for left in range(0, genes, width)
        for top in range(0, cells, height)
    ]


def chunk_bytes(place: Any) -> int:
    """Return the size in bytes of the largest chunk that HDF5 must unpack whole, 0 if there is none."""
    sets = [place] if hasattr(place, "chunks") else [place["indices"], place["data"]]
    return max(math.prod(each.chunks) * int(each.dtype.itemsize) if is_packed(each) else 0 for each in sets)


def is_packed(place: Any) -> bool:
    """Whether HDF5 must unpack or check the dataset's chunks before any value can be read."""
    return bool(place.id.get_create_plist().get_nfilters())


def ahead(read: Callable[[_Wanted], _Piece], wanted: Iterable[_Wanted]) -> Generator[_Piece, None, None]:
    """Iterate over the results of `read` for each item, read in a thread while the previous result is processed."""
    with ThreadPoolExecutor(1, "read") as reader:
        coming = None
        for each in wanted:
            following = reader.submit(read, each)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
