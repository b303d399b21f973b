"""Small datasets of every kind of matrix, for comparisons with plain cellxgene."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from scipy import sparse

import forking
from places import CHECKOUT

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
    """Write a dataset with this kind of matrix; all have the same columns of every type, embeddings and colours."""
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


def summarize(*paths: Path | bytes | str) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(os.fsdecode(path)) + "\n" for path in paths)
    command = [sys.executable, "-m", "cxg_proxy.viewer", "summarize"]
    done = forking.run(command, stdin=lines.encode(), cwd=CHECKOUT)
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["path"] for answer in answers] == [os.fsdecode(path) for path in paths]
    return answers


def older(path: Path) -> Path:
    """Write a file as AnnData did before 0.7: tables of fixed fields, and the labels of categories in uns."""
    random = np.random.default_rng(2)
    obs = np.zeros(30, [("index", "S9"), ("kind", "i1"), ("size", "f4"), ("multi1", "f8"), ("multi2", "f8")])
    obs["index"] = [f"cell{number}".encode() for number in range(30)]
    obs["kind"], obs["size"], obs["multi1"] = random.integers(0, 3, 30), random.random(30), random.random(30)
    var = np.zeros(5, [("index", "S9"), ("n", "i8")])
    var["index"] = [f"gene{number}".encode() for number in range(5)]
    raw = np.zeros(8, [("index", "S9")])
    raw["index"] = [f"more{number}".encode() for number in range(8)]
    with h5py.File(path, "w") as file:
        file["obs"], file["var"], file["raw.var"] = obs, var, raw
        file["X"] = random.random((30, 5)).astype("f4")
        write_elem(file, "raw.X", sparse.random(30, 8, 0.5, "csr", "f4", random))
        obsm = np.zeros(30, [("X_pca", "f8", (7,)), ("X_umap", "f8", (2,))])
        obsm["X_pca"], obsm["X_umap"] = random.random((30, 7)), random.random((30, 2))
        file["obsm"] = obsm
        file["uns/kind_categories"] = np.array([b"B", b"T", b"NK"])
        file["uns/kind_colors"] = np.array([b"#ff0000", b"#00ff00", b"#0000ff"])
        file["uns/obs_keys_multicol"] = np.array([b"multi", b"none"])
    return path
