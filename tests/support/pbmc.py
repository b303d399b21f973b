"""The PBMC dataset, 700 real blood cells that come with scanpy, read without scanpy, which takes seconds to import."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import anndata

_FOUND = find_spec("scanpy")
assert _FOUND is not None
assert _FOUND.origin is not None
PBMC = Path(_FOUND.origin).parent / "datasets" / "10x_pbmc68k_reduced.h5ad"


def write_pbmc(path: Path) -> None:
    """Write the dataset as `scanpy.datasets.pbmc68k_reduced().write_h5ad(path)` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file in scanpy is older than today's anndata
        anndata.read_h5ad(PBMC).write_h5ad(path)
