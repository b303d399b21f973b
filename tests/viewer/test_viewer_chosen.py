"""What of a file is shown can be chosen: a layer in the place of X, and the columns that name cells and genes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server.common.fbs.matrix import decode_matrix_fbs

from viewer_fixtures import Server, cells, failure, worker
from viewer_labels import read, save

# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    data = cells()
    data.layers["counts"] = np.full(data.shape, 7, dtype=np.float32)
    data.obs.index.name, data.var.index.name = "barcode", "symbol"
    data.var["ensembl"] = [f"ENSG{number}" for number in range(data.n_vars)]
    data.write_h5ad(tmp_path / "layered.h5ad")
    return tmp_path / "layered.h5ad"


def values(server: Server, gene: str) -> Any:
    index = server.api("schema").json["schema"]["annotations"]["var"]["index"]
    reply = server.api(f"data/var?var:{index}={gene}", Accept="application/octet-stream")
    assert reply.status == 200, reply
    return decode_matrix_fbs(reply.body).iloc[:, 0]


def test_a_layer_stands_for_x_where_it_is_asked_for(layered: Path) -> None:
    with worker(layered, options={"layer": "counts"}) as server:
        assert set(values(server, "gene3")) == {7.0}
    with worker(layered) as server:
        assert max(values(server, "gene3")) < 1


def test_a_layer_that_the_file_does_not_have_is_named_with_those_it_has(layered: Path) -> None:
    problem = failure(layered, options={"layer": "cuonts"})
    assert problem["kind"] == "BadOptions"
    assert "layer is 'cuonts', but the file has counts" in problem["sentence"]


def test_the_name_of_the_index_names_cells_and_genes_as_they_are_named_already(layered: Path) -> None:
    with worker(layered, options={"obs_names": "barcode", "var_names": "symbol"}) as server:
        assert len(values(server, "gene3")) == 60
        assert save(server, mine=["x"] * 60).status == 200
        assert read(server, "mine") == ["x"] * 60
    with worker(layered, options={"var_names": "ensembl"}) as server:
        assert len(values(server, "ENSG3")) == 60
