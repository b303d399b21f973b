"""The metadata of an .h5ad file that cellxgene shows: embeddings, and some entries of `uns`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from server.common.utils.corpora_constants import CorporaConstants

from .matrix import own

Array = NDArray[Any]
EMBEDDING_COLUMNS = 2  # columns of an embedding that cellxgene draws
_BLOCK_BYTES = 16 * 1024**2
_CORPORA = {
    *CorporaConstants.REQUIRED_SIMPLE_METADATA_FIELDS,
    *CorporaConstants.OPTIONAL_JSON_ENCODED_METADATA_FIELD,
    *CorporaConstants.OPTIONAL_SIMPLE_METADATA_FIELDS,
}
# What anndata looks for in uns of a file from before 0.7: labels of categories, and the columns that are matrices.
_OLDER = ("_categories", "_keys_multicol")


def described(file: Any, source: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the entries of uns that cellxgene reads: colours, and the fields of the Corpora schema.

    Entries with which anndata reads files from before 0.7 are included. Raises NotViewable for an entry that lies in
    another file.
    """
    uns = file.get("uns")
    for name in uns if isinstance(uns, h5py.Group) else ():
        if name in _CORPORA or name.endswith(("_colors", *_OLDER)):
            yield name, own(file, uns[name], source)


def embeddings(file: Any, cells: int, source: str) -> Iterator[tuple[str, Array]]:
    """Iterate over the embeddings that cellxgene shows, by name: arrays of cells x 2, in the file's dtype.

    `AnndataAdaptor._is_valid_layout` decides which; an array has a third column where that needs one to accept it.
    Raises NotViewable for an embedding that lies in another file.
    """
    obsm = file.get("obsm")
    if isinstance(obsm, h5py.Dataset):  # before AnnData 0.7: one table with a field for each embedding
        names = obsm.dtype.names or ()
        own(file, obsm, source)
    else:
        names = list(obsm or ())
    for name in names:
        if not name.startswith("X_"):
            continue
        place = obsm[name]
        if isinstance(place, h5py.Dataset):
            own(file, place, source)
        if (array := _shown(place, cells)) is not None:
            yield name, array


def _shown(place: Any, cells: int) -> Array | None:
    """Return the first two columns, or None if cellxgene, which checks all columns, would not show the embedding."""
    if not isinstance(place, h5py.Dataset | np.ndarray) or place.ndim != 2 or place.dtype.kind not in "fiu":
        return None
    if place.shape[0] != cells or place.shape[1] < EMBEDDING_COLUMNS:
        return None
    shown = np.empty((cells, EMBEDDING_COLUMNS), place.dtype)
    other = np.full((cells, 1), np.nan, place.dtype) if place.dtype.kind == "f" else None
    height = max(1, _BLOCK_BYTES // (place.shape[1] * place.dtype.itemsize))
    for top in range(0, cells, height):
        block = place[top : top + height]
        if np.isinf(block).any():
            return None
        shown[top : top + height] = block[:, :EMBEDDING_COLUMNS]
        if other is not None and block.shape[1] > EMBEDDING_COLUMNS:
            there = ~np.isnan(block[:, EMBEDDING_COLUMNS:])
            other[top : top + height][there.any(axis=1)] = 0
    if other is None or not np.isnan(shown).all():
        return shown
    # cellxgene shows the embedding if any column holds a number, so one such column is kept.
    return None if np.isnan(other).all() else np.hstack([shown, other])
