"""A viewer on a store opens without the names of its cells, and has them as soon as somebody asks."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from flask.testing import FlaskClient

from cxg_proxy import annotations
from cxg_proxy.errors import NotViewable
from cxg_proxy.viewer import options
from cxg_proxy.viewer.dataset import metadata
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.source import cell_names
from cxg_proxy.viewer.store import build, store
from cxg_proxy.viewer.store.origin import Origin
from pbmc import PBMC
from viewer_fixtures import cells
from viewer_samples import older

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # cellxgene asks anndata for its version in a way of the past
    from cxg_proxy.viewer.cellxgene.application import load

pytestmark = pytest.mark.filterwarnings("ignore")  # cellxgene asks anndata for what is going to change
BINARY = {"Accept": "application/octet-stream"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    data = cells(40, 5)
    data.obs_names = [f"cell, {number} «é»" for number in range(40)]
    data.obs["other"] = [f"x{number}" for number in range(40)]
    data.obs_names.name = "barcode"
    data.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def stored(path: Path) -> store.Store:
    """A store of the dataset, beside it."""
    into = path.parent / "store"
    into.mkdir()
    build.build(Origin.of(str(path)), into, memory=1 << 24, report=lambda _: None, cancelled=lambda: False)
    return store.Store.open(into, Origin.of(str(path)).fingerprint)


def viewer(path: Path, there: store.Store, found: metadata.Metadata, **chosen: Any) -> FlaskClient:
    """The viewer of what was read of a dataset, with the labels beside it."""
    return load(
        str(path),
        path.parent / "labels",
        options.gather(str(path), chosen),
        read_only=False,
        history_limit=1 << 20,
        diffexp_workers=1,
        diffexp_max_cells=None,
        read=lambda *_: (found, Expression.of_store(there)),
    ).test_client()


def asked(client: FlaskClient, target: str) -> tuple[int, bytes]:
    reply = client.get(f"/api/v0.2/{target}", headers={**BINARY, "Accept-Encoding": "identity"})
    return reply.status_code, reply.get_data()


def test_what_a_page_opens_with_needs_no_names_and_the_column_of_names_has_them(dataset: Path) -> None:
    there = stored(dataset)
    found, early = metadata.of_store(there), metadata.read(Origin.of(str(dataset)))
    assert found.names is not None
    page, expected = viewer(dataset, there, found), viewer(dataset, there, early)
    opening = ("schema", "config", "colors", "layout/obs?layout-name=umap", "annotations/obs?annotation-name=kind")
    for target in (*opening, "annotations/var?annotation-name=name_0", "genesets"):
        assert asked(page, target) == asked(expected, target)
    assert found.names._index is None
    assert found.data.obs["name_0"].dtype == np.int8
    for target in ("annotations/obs?annotation-name=name_0", "annotations/obs", "annotations/obs?annotation-name=kind"):
        assert asked(page, target) == asked(expected, target)
    assert found.names._index is not None


@pytest.mark.parametrize("chosen", [{"obs_names": "other"}, {"obs_names": "barcode"}])
def test_other_names_that_were_chosen_are_shown(dataset: Path, chosen: dict[str, str]) -> None:
    there = stored(dataset)
    page = viewer(dataset, there, metadata.of_store(there), **chosen)
    expected = viewer(dataset, there, metadata.read(Origin.of(str(dataset))), **chosen)
    for target in ("schema", "annotations/obs"):
        assert asked(page, target) == asked(expected, target)


def test_cells_are_found_by_their_names_in_a_filter(dataset: Path) -> None:
    there = stored(dataset)
    replies = []
    for found in (metadata.of_store(there), metadata.read(Origin.of(str(dataset)))):
        wanted = [{"name": "name_0", "values": ["cell, 3 «é»", "cell, 5 «é»"]}]
        rest_of = [{"name": "name_0", "values": ["cell, 7 «é»"]}]
        body = {
            "mode": "topN",
            "count": 5,
            "set1": {"filter": {"obs": {"annotation_value": wanted}}},
            "set2": {"filter": {"obs": {"annotation_value": rest_of}}},
        }
        replies.append(viewer(dataset, there, found).post("/api/v0.2/diffexp/obs", json=body))
    assert replies[0].status_code == replies[1].status_code
    assert replies[0].get_data() == replies[1].get_data()


def test_labels_are_matched_to_the_names(dataset: Path) -> None:
    there = stored(dataset)
    text = 'index,mine\n"cell, 3 «é»",T\n"cell, 5 «é»",B\n'
    annotations.write(dataset.parent / "labels", annotations.LABELS, text.encode())
    page = viewer(dataset, there, metadata.of_store(there))
    expected = viewer(dataset, there, metadata.read(Origin.of(str(dataset))))
    for target in ("schema", "annotations/obs?annotation-name=mine", "annotations/obs"):
        assert asked(page, target) == asked(expected, target)
    assert "mine" in asked(page, "schema")[1].decode()


def test_the_names_are_there_after_the_store_was_removed(dataset: Path) -> None:
    there = stored(dataset)
    page = viewer(dataset, there, metadata.of_store(there))
    expected = asked(
        viewer(dataset, there, metadata.read(Origin.of(str(dataset)))), "annotations/obs?annotation-name=name_0"
    )
    shutil.rmtree(there.folder)
    assert asked(page, "annotations/obs?annotation-name=name_0") == expected


def test_names_that_cannot_be_read_any_more_are_told_as_a_problem_of_the_file(dataset: Path) -> None:
    there = stored(dataset)
    page = viewer(dataset, there, metadata.of_store(there))
    there.rest.chmod(0o600)
    there.rest.write_bytes(b"")
    status, said = asked(page, "annotations/obs?annotation-name=name_0")
    assert status == 422
    assert "cells.h5ad" in said.decode()


def test_names_that_several_cells_share_are_refused_as_they_are_without_a_store(dataset: Path) -> None:
    data = anndata.read_h5ad(dataset)
    data.obs_names = ["same"] * 40
    data.write_h5ad(dataset)
    there = stored(dataset)
    assert not there.names_differ
    found = metadata.of_store(there)
    assert found.names is None
    with pytest.raises(NotViewable, match="unique"):
        viewer(dataset, there, found)


def test_names_are_those_that_anndata_reads_whatever_the_file(dataset: Path, tmp_path: Path) -> None:
    numbered = tmp_path / "numbered.h5ad"
    data = cells(30, 4)
    data.write_h5ad(numbered)
    with h5py.File(numbered, "a") as file:
        del file["obs/_index"]
        file["obs/_index"] = np.arange(30)
    kinds = {dataset: True, PBMC: False, older(tmp_path / "old.h5ad"): False, numbered: False}
    for number, (path, can_wait) in enumerate(kinds.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = metadata.of_store(stored(Path(shutil.copy(path, folder))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = anndata.read_h5ad(path).obs
        assert (found.names is not None) == can_wait
        index = found.data.obs.index if found.names is None else found.names.index()
        pd.testing.assert_index_equal(index, expected.index)
        columns = list(expected.columns)
        pd.testing.assert_frame_equal(
            found.data.obs[columns].reset_index(drop=True), expected[columns].reset_index(drop=True)
        )


def test_two_cells_of_many_with_one_name_are_found(tmp_path: Path) -> None:
    path = tmp_path / "names.h5ad"
    for found, differ in ([f"c{number}" for number in range(70_000)], True), (["a", "b", "a"], False), ([], True):
        with h5py.File(path, "w") as file:
            obs = file.create_group("obs")
            obs.attrs["_index"] = "_index"
            obs["_index"] = np.array(found, dtype=h5py.string_dtype())
        assert cell_names.are_unique(path) == differ
