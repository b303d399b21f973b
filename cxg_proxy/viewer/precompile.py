"""Compiles what viewers and builders will need: the statistics, and what the store of a tiny dataset takes."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

from cxg_proxy.viewer.compute import kernels
from cxg_proxy.viewer.store import build

_KINDS = (np.float32, np.float64)  # builders know values by their size only
_MEMORY_BYTES = 64_000_000


def rehearse() -> None:
    """Have all code compiled and kept where later processes look for it."""
    kernels.compile()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a dataset of three cells is a strange one
        for kind in _KINDS:
            name = np.dtype(kind).name
            file, into = Path(place) / f"{name}.h5ad", Path(place) / name
            into.mkdir()
            data = anndata.AnnData(sparse.csr_matrix(np.eye(3, dtype=kind)), obsm={"X_umap": np.eye(3, 2)})
            data.write_h5ad(file)
            build.build(str(file), None, into, memory=_MEMORY_BYTES, report=lambda _: None, cancelled=lambda: False)
