"""The metadata of an .h5ad file that cellxgene shows: some entries of `uns`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
from server.common.utils.corpora_constants import CorporaConstants

from .matrix import own

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
