"""Which matrix of a file stands for X, and which cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

from cxg_proxy.errors import BadOptions, DamagedFile, NotViewable
from cxg_proxy.viewer.store import store
from matrices import PLAIN, as_read, in_file, make, same, write_file


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    """A file with X, a layer, and a raw of more genes."""
    random = np.random.default_rng(3)
    full = anndata.AnnData(sparse.random(40, 30, 0.3, "csr", "f4", random), obsm={"X_umap": random.random((40, 2))})
    data = full[:, :20].copy()
    data.raw = full
    data.layers["counts"] = sparse.random(40, 20, 0.4, "csc", "f8", random)
    data.layers["flat"] = random.integers(0, 5, (40, 20)).astype("i2")
    data.write_h5ad(tmp_path / "layered.h5ad", compression="gzip")
    return tmp_path / "layered.h5ad"


@pytest.mark.parametrize("layer", [None, "counts", "flat", "raw"])
def test_a_layer_or_raw_stands_for_x(layered: Path, tmp_path: Path, layer: str | None) -> None:
    same(make(layered, tmp_path / "store", layer), as_read(layered, layer))


def test_a_layer_named_raw_goes_before_raw_itself(layered: Path, tmp_path: Path) -> None:
    with h5py.File(layered, "r+") as file:
        file.copy("layers/flat", file, "layers/raw")
    same(make(layered, tmp_path / "layer", "raw"), as_read(layered, "flat"))
    same(make(layered, tmp_path / "raw", "raw/X"), as_read(layered, "raw"))


def test_a_layer_that_is_not_there_is_told_with_those_that_are(layered: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=r"layer is 'nope', but the file has counts, flat, raw"):
        make(layered, tmp_path / "store", "nope")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[1 + 2j]]), "of the kind complex128, not numbers"),
        (np.array([[b"a"]]), "not numbers"),
        (np.array([[2**31]]), "beyond what its page can hold"),
        (np.array([[2**63]], "u8"), "beyond what its page can hold"),
        (np.array([1.0]), "its matrix has 1 dimensions"),
        (None, "it has no matrix X"),
    ],
)
def test_a_matrix_that_cellxgene_cannot_show_is_refused(values: Any, words: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.h5ad", 1, 1, lambda file: None if values is None else file.__setitem__("X", values))
    with pytest.raises(NotViewable, match=re.escape(words)):
        make(path, tmp_path / "store")
    assert not (tmp_path / "store" / store.MANIFEST).exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("indptr", [0, 2, 1, 3]),
        ("indptr", [0, 1, 2, 9]),
        ("indptr", [0, 3]),
        ("indptr", [-1, 1, 2, 3]),
        ("indices", [0, 1, 2]),
        ("indices", [0, -1, 1]),
        ("indices", [0, 2**32, 1]),
    ],
)
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_a_sparse_matrix_that_does_not_fit_together_is_damaged(
    name: str, values: list[int], kind: str, tmp_path: Path
) -> None:
    parts = {"indptr": [0, 1, 2, 3], "indices": [0, 1, 1], "data": [1.0, 2.0, 3.0], name: values}
    arrays = [np.array(parts[part]) for part in ("indptr", "indices", "data")]
    shape = (3, 2) if kind == "csr" else (2, 3)
    path = write_file(tmp_path / "a.h5ad", *shape, in_file((shape, kind, *arrays), PLAIN, False))
    with pytest.raises(DamagedFile):
        make(path, tmp_path / "store")
