"""Small datasets, their labels and hostile file names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from scipy import sparse


def write_dataset(file: Path, *, cells: int = 30, genes: int = 5, embedding: bool = True) -> Path:
    """Write a small dataset that cellxgene can show, or without `embedding`, cannot."""
    random = np.random.default_rng(0)
    data = anndata.AnnData(random.random((cells, genes)).astype(np.float32))
    data.obs["kind"] = np.array(["a", "b"])[np.arange(cells) % 2]
    data.obs["kind"] = data.obs["kind"].astype("category")
    if embedding:
        data.obsm["X_umap"] = random.random((cells, 2)).astype(np.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    data.write_h5ad(file)
    return file


def labels_body(cells: int, label: str) -> bytes:
    """Return what the viewer sends to save one category: a compressed flatbuffer, made by cellxgene's own encoder."""
    program = (
        "import sys, zlib, pandas as pd\n"
        "from server.common.fbs.matrix import encode_matrix_fbs\n"
        f"df = pd.DataFrame({{'mine': pd.Series([{label!r}] * {cells}, dtype='category')}})\n"
        "sys.stdout.buffer.write(zlib.compress(bytes(encode_matrix_fbs(df, col_idx=df.columns))))\n"
    )
    return subprocess.check_output([sys.executable, "-c", program])


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


HOSTILE = [
    "plain.h5ad",
    "with space.h5ad",
    "a'b\"c.h5ad",
    "100%.h5ad",
    "a#1.h5ad",
    "a?b.h5ad",
    "{port}.h5ad",
    "new\nline.h5ad",
    "größe-细胞.h5ad",
    "til~de.h5ad",
    "~41.h5ad",
    "a&b;c=d+e.h5ad",
    "<script>alert(1)</script>.h5ad".replace("/", "∕"),
    os.fsdecode(b"bytes-\xff\xfe.h5ad"),
    "-dash.h5ad",
    "C:\\windows.h5ad",
]


def drawn(path: Path, cells: int, genes: int, kind: str, **how: Any) -> Path:
    """Write a dataset in which a tenth of the values are stored, or all if it is dense."""
    random = np.random.default_rng(6)
    if kind == "dense":
        values: Any = random.random((cells, genes), dtype="f4")
    else:
        lines, length = (cells, genes) if kind == "csr" else (genes, cells)
        each = length // 10
        # One index out of every ten, so that they are sorted and unique.
        indices = np.arange(each, dtype="i4") * 10 + random.integers(0, 10, (lines, each), dtype="i4")
        made = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}[kind]
        data = random.random(lines * each, dtype="f4")
        values = made((data, indices.ravel(), np.arange(lines + 1) * each), shape=(cells, genes))
    anndata.AnnData(values, obsm={"X_umap": np.ones((cells, 2))}).write_h5ad(path, **how)
    return path
