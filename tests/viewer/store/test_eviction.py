"""How much room a store will need is known before it is built, near enough that no other one goes in vain."""

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from cxg_proxy.viewer.store import eviction
from cxg_proxy.viewer.store.origin import Origin
from stores_fixtures import Make
from viewer_fixtures import cells

pytest_plugins = ["stores_plugin"]
CELLS, GENES = 4000, 500
MARGIN = 16_000_000


def matrix(genes: int = GENES) -> sparse.csr_matrix:
    return sparse.random(CELLS, genes, density=0.1, format="csr", dtype=np.float32, rng=np.random.default_rng(1))


def layers(data: anndata.AnnData) -> None:
    data.layers["counts"], data.layers["dense"] = matrix(), np.ones((CELLS, GENES))


def raw(data: anndata.AnnData) -> None:
    data.raw = anndata.AnnData(X=matrix(900), obs=data.obs)


def graph(data: anndata.AnnData) -> None:
    data.obsp["distances"] = matrix(CELLS)


def others(data: anndata.AnnData) -> None:
    data.obsm["X_pca"], data.obsm["scores"] = np.ones((CELLS, 300)), np.ones((CELLS, 300))
    data.varm["PCs"], data.uns["table"] = np.ones((GENES, 5000)), np.ones((CELLS, 300))


def text(data: anndata.AnnData) -> None:
    data.obs["note"] = [f"{number} " + "long " * 100 for number in range(CELLS)]
    data.obs_names = [f"{number} " + "name " * 100 for number in range(CELLS)]


def labels(data: anndata.AnnData) -> None:
    data.obs["label"] = np.array([f"label {number % 1000}" for number in range(CELLS)])
    data.obs["label"] = data.obs["label"].astype("category")
    data.uns["label_colors"] = np.array(["#000000"] * 1000)
    for number in range(20):
        data.obs[f"score {number}"] = np.random.default_rng(number).random(CELLS)


MORE: dict[str, Callable[[anndata.AnnData], None]] = {
    each.__name__: each for each in (layers, raw, graph, others, text, labels)
}


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
@pytest.mark.parametrize("more", MORE)
def test_of_all_that_a_file_holds_only_what_a_store_does_needs_room(
    more: str, kind: str, tmp_path: Path, make: Make
) -> None:
    data = cells(CELLS, GENES)
    data.X = matrix().toarray() if kind == "dense" else matrix().asformat(kind)
    MORE[more](data)
    path = tmp_path / "cells.h5ad"
    data.write_h5ad(path, compression="gzip" if kind == "csc" else None)
    estimate = eviction.estimate(Origin.of(str(path))) - MARGIN
    taken = eviction.size(make(path).folder)
    assert taken * 0.95 < estimate < taken * 1.3
