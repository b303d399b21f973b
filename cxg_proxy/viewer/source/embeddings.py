"""The embeddings of an .h5ad file that cellxgene draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .matrix import own

Array = NDArray[Any]
COLUMNS = 2  # of an embedding, which cellxgene draws
_BLOCK_BYTES = 8 * 1024**2
_SAMPLE_BLOCKS = 64  # of a very large embedding, by which a summary judges it


def drawable(file: Any, cells: int, source: str) -> list[str]:
    """Return the names of the embeddings that `read` returns, without "X_".

    An embedding of more than 512 MB is judged by a sample. Raises NotViewable for an embedding in another file.
    """
    return [name[2:] for name, place in _candidates(file, cells, source) if _judge(place.dtype, _sample(place))]


def read(file: Any, cells: int, source: str) -> Iterator[tuple[str, Array]]:
    """Iterate over the embeddings that cellxgene draws, by name: arrays of cells x 2, in the file's dtype.

    `AnndataAdaptor._is_valid_layout` decides which; an array has a third column where that needs one to accept it.
    Raises NotViewable for an embedding in another file.
    """
    for name, place in _candidates(file, cells, source):
        if (array := _read(place, cells)) is not None:
            yield name, array


def kinds(file: Any) -> dict[str, np.dtype[Any]]:
    """Return the dtypes of the embeddings that may be drawn, by name; none of their values is read."""
    obsm = file.get("obsm")
    if isinstance(obsm, h5py.Dataset):  # before AnnData 0.7: one table with a field for each embedding
        found = {name: obsm.dtype[name].base for name in obsm.dtype.names or ()}
    else:
        found = {name: obsm[name].dtype for name in obsm or () if isinstance(obsm.get(name), h5py.Dataset)}
    return {name: kind for name, kind in found.items() if name.startswith("X_") and kind.kind in "fiu"}


def _candidates(file: Any, cells: int, source: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the embeddings of numbers with the right shape, by name."""
    obsm = file.get("obsm")
    for name in kinds(file):
        own(file, obsm if isinstance(obsm, h5py.Dataset) else obsm[name], source)
        place = obsm[name]
        if place.ndim == 2 and place.shape[0] == cells and place.shape[1] >= COLUMNS:
            yield name, place


def _judge(dtype: np.dtype[Any], blocks: Iterable[Array]) -> bool:
    """Whether the blocks of an embedding hold no infinity, and a number; other numbers than floats always do."""
    some = dtype.kind != "f"
    for block in blocks:
        if np.isinf(block).any():
            return False
        some = some or not np.isnan(block).all()
    return some


def _sample(place: Any) -> Iterator[Array]:
    if place.dtype.kind != "f":
        return
    height = _height(place)
    count = -(-place.shape[0] // height)
    for block in range(0, count, -(-count // _SAMPLE_BLOCKS)):
        yield place[block * height : (block + 1) * height]


def _read(place: Any, cells: int) -> Array | None:
    """Return the first two columns, or None if cellxgene, which judges by all columns, does not draw the embedding."""
    drawn = np.empty((cells, COLUMNS), place.dtype)
    other = np.full((cells, 1), np.nan, place.dtype) if place.dtype.kind == "f" else None

    def blocks() -> Iterator[Array]:
        height = _height(place)
        for top in range(0, cells, height):
            block = place[top : top + height]
            drawn[top : top + height] = block[:, :COLUMNS]
            if other is not None and block.shape[1] > COLUMNS:
                other[top : top + height][(~np.isnan(block[:, COLUMNS:])).any(axis=1)] = 0
            yield block

    if not _judge(place.dtype, blocks()):
        return None
    if other is None or not np.isnan(drawn).all():
        return drawn
    return np.hstack([drawn, other])  # only another column holds a number, for which cellxgene draws the embedding


def _height(place: Any) -> int:
    return max(1, _BLOCK_BYTES // (int(place.shape[1]) * int(place.dtype.itemsize)))
