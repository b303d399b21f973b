"""Small datasets of every kind of matrix, for comparisons with plain cellxgene."""

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

CELLS = 300


def _values(genes: int = 40) -> Any:
    random = np.random.default_rng(3)
    there = random.random((CELLS, genes)) < random.random(genes)
    return random.gamma(2, random.random(genes) * 2, (CELLS, genes)) * there


def _with_gaps() -> Any:
    values = _values()
    values[::7, 3], values[:, 5], values[4, 6] = np.nan, np.nan, np.nan
    return values


def _constant() -> Any:
    values = _values()
    values[:, ::3], values[:, 1] = 2.5, 0
    return values


MATRICES = {
    "CSR": lambda: sparse.csr_matrix(_values().astype(np.float32)),
    "CSC": lambda: sparse.csc_matrix(_values().astype(np.float32)),
    "dense": lambda: _values().astype(np.float32),
    "counts": lambda: sparse.csr_matrix((_values() * 20).astype(np.int32)),
    "long counts": lambda: sparse.csc_matrix((_values() * 20).astype(np.int64)),
    "short counts": lambda: sparse.csr_matrix((_values() * 20).astype(np.uint8)),
    "dense counts": lambda: (_values() * 20).astype(np.int64),
    "float64": lambda: sparse.csr_matrix(_values()),
    "dense float64": _values,
    "gaps": lambda: sparse.csr_matrix(_with_gaps().astype(np.float32)),
    "dense gaps": lambda: _with_gaps().astype(np.float32),
    "one type": lambda: sparse.csr_matrix(_values().astype(np.float32)),
    "one gene": lambda: sparse.csr_matrix(_values(1).astype(np.float32)),
    "no variance": lambda: sparse.csr_matrix(_constant().astype(np.float32)),
    "true or false": lambda: _values() > 1,
    "empty": lambda: sparse.csr_matrix((CELLS, 40), dtype=np.float32),
}


def write(kind: str, path: Path) -> None:
    """Write the dataset with this kind of matrix; columns of every type, embeddings and colours are the same in all."""
    random = np.random.default_rng(4)
    data = anndata.AnnData(MATRICES[kind]())
    data.obs_names = [f"cell {number}" for number in range(data.n_obs)]
    data.var_names = [f"gene {number}" for number in range(data.n_vars)]
    names = ["only"] if kind == "one type" else ["B", "T", "NK"]
    data.obs["kind"] = pd.Categorical([names[number % len(names)] for number in range(data.n_obs)])
    data.obs["text"] = [f"text {number % 9}" for number in range(data.n_obs)]
    data.obs["size"] = random.random(data.n_obs)
    data.obs["gaps"] = np.where(random.random(data.n_obs) < 0.5, np.nan, 1).astype(np.float32)
    data.obs["number"] = random.integers(0, 99, data.n_obs)
    data.obs["flag"] = random.random(data.n_obs) < 0.5
    data.var["mean"] = random.random(data.n_vars)
    data.var["known"] = random.random(data.n_vars) < 0.5
    data.obsm["X_umap"] = random.random((data.n_obs, 2))
    data.obsm["X_pca"] = random.random((data.n_obs, 5)).astype(np.float32)
    data.uns["kind_colors"] = ["#ff0000", "#00ff00", "#0000ff"][: len(names)]
    data.write_h5ad(path)
