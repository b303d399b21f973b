"""The precompilation of all numba code that workers and builders need.

It compiles the statistics, and builds the stores of tiny datasets for the rest.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import anndata
import numpy as np
from scipy import sparse

from cxg_proxy.viewer.compute import kernels
from cxg_proxy.viewer.store import build
from cxg_proxy.viewer.store.origin import Origin

_KINDS = (np.float32, np.float64)  # a build's code depends only on the size of a value
_MEMORY_BYTES = 64_000_000


def precompile() -> None:
    """Compile all code, and cache it where later processes look for it."""
    kernels.compile()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a dataset of three cells causes warnings
        for kind in _KINDS:
            name = np.dtype(kind).name
            file, into = Path(place) / f"{name}.h5ad", Path(place) / name
            into.mkdir()
            data = anndata.AnnData(sparse.csr_matrix(np.eye(3, dtype=kind)), obsm={"X_umap": np.eye(3, 2)})
            data.write_h5ad(file)
            origin = Origin.of(str(file))
            build.build(origin, into, memory=_MEMORY_BYTES, report=lambda _: None, cancelled=lambda: False)
