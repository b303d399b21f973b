"""Labels that somebody has put into the dataset itself: the viewer opens, and nothing of them is lost."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import pytest

import cxg_proxy
from annotated_copies import KINDS, annotate, read, save
from cxg_proxy import annotations
from cxg_proxy.annotations import tables
from viewer_fixtures import Server, cells, failure, worker
from viewer_labels import CELLS, Page

# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")


@pytest.fixture(name="dataset")
def a_dataset_that_was_annotated_in_a_notebook(tmp_path: Path) -> Path:
    """Its category `mine` is a column of obs too; `later` was made after that."""
    file = tmp_path / "cells.h5ad"
    cells(CELLS).write_h5ad(file)
    save(where(file), mine=KINDS)
    cxg_proxy.annotate(anndata.read_h5ad(file), file, home=file.parent / "home").write_h5ad(file)
    save(where(file), mine=KINDS[::-1], later=KINDS)
    return file


def where(file: Path) -> Path:
    return annotations.directory(file.parent / "home", file)


def saved(file: Path) -> dict[str, list[str]]:
    found = tables.read_labels(annotations.read(where(file), annotations.LABELS) or b"")
    return {name: list(labels) for name, labels in found.columns.items()}


def columns(server: Server) -> list[tuple[str, bool]]:
    found = server.api("schema").json["schema"]["annotations"]["obs"]["columns"]
    return [(column["name"], column["writable"]) for column in found if column["name"] in ("mine", "later", "new")]


def test_the_viewer_shows_the_datasets_column_and_says_that_the_labels_are_hidden(dataset: Path) -> None:
    with worker(dataset, where(dataset)) as server:
        assert columns(server) == [("mine", False), ("later", True)]
        assert json.loads(server.api("schema").headers["X-Labels-Own"]) == ["mine"]
        page = Page(server)
        assert page.columns == {"later": KINDS}
        assert "X-Labels-Merged" not in page.save(new="x").headers  # nobody else has changed anything
        assert "X-Labels-Merged" not in page.save(later=None).headers
        assert columns(server) == [("mine", False), ("new", True)]
    assert saved(dataset) == {"mine": KINDS[::-1], "new": ["x"] * CELLS}


def test_the_viewer_opens_when_all_labels_are_columns_of_the_dataset_and_new_ones_can_be_made(dataset: Path) -> None:
    save(where(dataset), mine=KINDS)
    with worker(dataset, where(dataset)) as server:
        assert columns(server) == [("mine", False)]
        Page(server).save(new="x")
        Page(server).save(new=None)
        assert columns(server) == [("mine", False)]
    assert saved(dataset) == {"mine": KINDS}


def test_a_column_that_did_not_come_from_the_viewer_is_explained_as_before(dataset: Path) -> None:
    save(where(dataset), mine=KINDS, kind=KINDS)
    problem = failure(dataset, labels=where(dataset))
    assert problem["kind"] == "LabelsNotReadable"
    assert "the dataset itself has a category named 'kind' now" in problem["sentence"]


def test_labels_whose_column_was_taken_out_of_the_dataset_again_are_shown(dataset: Path) -> None:
    data = anndata.read_h5ad(dataset)
    del data.obs["mine"]
    data.write_h5ad(dataset)
    with worker(dataset, where(dataset)) as server:
        assert columns(server) == [("mine", True), ("later", True)]
        assert "X-Labels-Own" not in server.api("schema").headers


def test_a_copy_with_labels_has_the_newest_in_the_place_of_older_ones(dataset: Path, tmp_path: Path) -> None:
    annotate(dataset, where(dataset), tmp_path / "out.h5ad")
    data = read(tmp_path / "out.h5ad")
    assert data.obs.columns.tolist() == ["kind", "size", "mine", "later"]
    assert data.obs["mine"].tolist() == KINDS[::-1]
    assert data.obs["later"].tolist() == KINDS
    assert data.uns["cellxgene_categories"].tolist() == ["later", "mine"]
