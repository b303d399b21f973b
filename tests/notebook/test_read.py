"""Labels and gene sets in a notebook, as the columns and tables that a person would make of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cxg_proxy
from cxg_proxy import annotations
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv
from cxg_proxy.notebook.read import NotSaved

CELLS = [f"cell#{number}" for number in range(12)]
KINDS = ["T 10", "T 9", "unassigned", "B"] * 3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def dataset(cells: list[str] = CELLS) -> anndata.AnnData:
    data = anndata.AnnData(np.ones((len(cells), 2), dtype=np.float32))
    data.obs_names, data.var_names = cells, ["CD3E", "CD8A"]
    data.obs["kind"] = pd.Categorical(["a"] * len(cells))
    return data


def save(home: Path, path: str, *, cells: list[str] = CELLS, index: str = "index", **columns: list[str]) -> Path:
    where = annotations.directory(home, Path(path))
    content = labels_csv(LabelTable(index, tuple(cells), {name: tuple(each) for name, each in columns.items()}))
    record = annotations.DatasetRecord(Path(path).name, path, len(cells), annotations.identifiers_digest(cells))
    annotations.write(where, annotations.LABELS, content.encode(), record=lambda: record)
    return where


def save_sets(where: Path, *sets: GeneSet) -> None:
    annotations.write(where, annotations.GENE_SETS, gene_sets_csv(sets).encode())


def test_labels_are_a_table_of_categories_with_the_cells_as_index(home: Path) -> None:
    save(home, "/data/pbmc.h5ad", type=KINDS, state=["x"] * 12)
    labels = cxg_proxy.labels("/data/pbmc.h5ad", home=home)
    assert list(labels.index) == CELLS
    assert list(labels.columns) == ["type", "state"]
    assert list(labels["type"]) == KINDS
    assert list(labels["type"].cat.categories) == ["B", "T 9", "T 10", "unassigned"]


def test_gene_sets_are_lists_of_genes_by_name(home: Path) -> None:
    where = annotations.directory(home, Path("/data/pbmc.h5ad"))
    save_sets(where, GeneSet("naive, T", "why", (("CCR7", "c"), ("LEF1", ""))), GeneSet("none"))
    assert cxg_proxy.gene_sets("/data/pbmc.h5ad", home=home) == {"naive, T": ["CCR7", "LEF1"], "none": []}


def test_a_dataset_is_annotated_by_the_names_of_its_cells_alone(home: Path, tmp_path: Path) -> None:
    where = save(home, "/data/pbmc.h5ad", type=KINDS)
    save_sets(where, GeneSet("a/b", "why", (("CD3E", ""),)))
    save(home, "/data/other.h5ad", cells=["x"], type=["y"])
    data = dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cxg_proxy.annotate(data, home=home) is data
    assert list(data.obs["type"]) == KINDS
    assert data.obs["type"].dtype == "category"
    data.write_h5ad(tmp_path / "annotated.h5ad")
    back = anndata.read_h5ad(tmp_path / "annotated.h5ad")
    assert list(back.obs["type"]) == KINDS
    assert back.uns["gene_sets"].to_dict("list") == {
        "gene_set_name": ["a/b"],
        "gene_set_description": ["why"],
        "gene_symbol": ["CD3E"],
        "gene_description": [""],
    }
    save(home, "/data/pbmc.h5ad", type=["later"] * 12)
    assert set(cxg_proxy.annotate(back, home=home).obs["type"]) == {"later"}


def test_a_filtered_and_reordered_dataset_is_recognised_by_the_cells_that_are_left(home: Path) -> None:
    save(home, "/data/pbmc.h5ad", type=KINDS)
    few = dataset(CELLS[::-2])
    assert list(cxg_proxy.annotate(few, home=home).obs["type"]) == KINDS[::-2]


def test_a_view_is_copied_and_its_parent_left_alone(home: Path) -> None:
    save(home, "/data/pbmc.h5ad", type=KINDS)
    data = dataset()
    view = data[2:5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        annotated = cxg_proxy.annotate(view, home=home)
    assert not annotated.is_view
    assert list(annotated.obs["type"]) == KINDS[2:5]
    assert "type" not in data.obs


def test_a_backed_dataset_is_recognised_by_its_file(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "pbmc.h5ad"
    dataset().write_h5ad(file)
    save(home, str(file), cells=CELLS[:6], type=KINDS[:6])
    save(home, "/data/same-cells.h5ad", type=["x"] * 12)
    backed = anndata.read_h5ad(file, backed="r")
    with pytest.warns(UserWarning, match="6 of 12 cells are not in the labels of") as warned:
        annotated = cxg_proxy.annotate(backed, home=home)
    assert warned[0].filename == __file__  # the reader's own line
    assert list(annotated.obs["type"]) == KINDS[:6] + ["unassigned"] * 6
    backed.file.close()


def test_labels_that_name_the_cells_by_another_column_are_matched_by_it(home: Path) -> None:
    data = dataset()
    data.obs["barcode"] = [f"bc{number}" for number in range(12)]
    save(home, "/data/pbmc.h5ad", cells=list(data.obs["barcode"]), index="barcode", type=KINDS)
    assert list(cxg_proxy.annotate(data, "/data/pbmc.h5ad", home=home).obs["type"]) == KINDS


def test_two_datasets_with_these_cells_are_named_and_one_can_be_chosen(home: Path) -> None:
    save(home, "/data/one.h5ad", type=KINDS)
    save(home, "/data/two.h5ad", type=["x"] * 12)
    with pytest.raises(NotSaved, match=r"2 datasets with these cells: /data/.*; /data/.*path="):
        cxg_proxy.annotate(dataset(), home=home)
    assert list(cxg_proxy.annotate(dataset(), "/data/one.h5ad", home=home).obs["type"]) == KINDS


def test_of_two_datasets_with_these_cells_the_one_that_is_still_there_is_meant(home: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.h5ad", tmp_path / "new.h5ad"
    dataset().write_h5ad(old)
    where = save(home, str(old), type=KINDS)
    old.rename(new)
    record = annotations.DatasetRecord(new.name, str(new), 12, annotations.identifiers_digest(CELLS))
    annotations.adopt(annotations.directory(home, new), where, record=lambda: record)
    save(home, str(new), type=["later"] * 12)
    assert set(cxg_proxy.annotate(dataset(), home=home).obs["type"]) == {"later"}
    assert set(cxg_proxy.annotate(dataset(CELLS[:5]), home=home).obs["type"]) == {"later"}


def test_of_two_datasets_with_the_same_labels_either_will_do_until_they_differ(home: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
    for file in files:
        dataset().write_h5ad(file)
        where = save(home, str(file), type=KINDS)
    assert list(cxg_proxy.annotate(dataset(), home=home).obs["type"]) == KINDS
    save_sets(where, GeneSet("s"))
    with pytest.raises(NotSaved, match="2 datasets with these cells"):
        cxg_proxy.annotate(dataset(), home=home)


def test_what_was_never_saved_is_told_with_the_place_where_it_would_be(home: Path) -> None:
    for ask in (cxg_proxy.labels, cxg_proxy.gene_sets):
        with pytest.raises(NotSaved, match=f"/data/none.h5ad: it would be in {home}"):
            ask("/data/none.h5ad", home=home)
    with pytest.raises(NotSaved, match=f"No labels for these cells are kept in {home}"):
        cxg_proxy.annotate(dataset(), home=home)
    with pytest.raises(LookupError, match=r"/data/none\.h5ad"):
        cxg_proxy.annotate(dataset(), "/data/none.h5ad", home=home)
    save(home, "/data/none.h5ad", type=KINDS)
    with pytest.raises(NotSaved, match="Nothing of this kind"):
        cxg_proxy.gene_sets("/data/none.h5ad", home=home)


def test_labels_of_other_cells_are_refused_and_nothing_is_changed(home: Path) -> None:
    save(home, "/data/pbmc.h5ad", cells=["x", "y"], type=["a", "b"])
    data = dataset()
    with pytest.raises(ValueError, match="they name cells like 'x', it has cells like 'cell#0'"):
        cxg_proxy.annotate(data, "/data/pbmc.h5ad", home=home)
    assert list(data.obs.columns) == ["kind"]


def test_a_column_of_the_datasets_own_is_not_replaced(home: Path) -> None:
    save(home, "/data/pbmc.h5ad", kind=KINDS)
    data = dataset()
    with pytest.raises(ValueError, match="obs has a column 'kind' already"):
        cxg_proxy.annotate(data, home=home)
    assert list(data.obs["kind"]) == ["a"] * 12
    where = save(home, "/data/pbmc.h5ad", type=KINDS)
    save_sets(where, GeneSet("s"))
    data.uns["gene_sets"] = {"my": "own"}
    with pytest.raises(ValueError, match="of its own"):
        cxg_proxy.annotate(data, home=home)
    assert data.uns["gene_sets"] == {"my": "own"}
    assert "type" not in data.obs


def test_a_file_edited_into_nonsense_is_named(home: Path) -> None:
    where = save(home, "/data/pbmc.h5ad", type=KINDS)
    (where / annotations.LABELS).write_text("index,type\nc1\n")
    with pytest.raises(ValueError, match=r"cell-labels.csv cannot be read: The row of 'c1'"):
        cxg_proxy.labels("/data/pbmc.h5ad", home=home)


def test_there_is_no_other_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'label'"):
        cxg_proxy.label  # noqa: B018 - the attribute is asked for


names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(st.lists(names, unique=True, min_size=1, max_size=9), st.data())
def test_any_names_and_labels_come_back(tmp_path: Path, cells: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.lists(names, min_size=len(cells), max_size=len(cells)))
    save(tmp_path, "/data/any.h5ad", cells=cells, type=labels)
    assert list(cxg_proxy.annotate(dataset(cells), "/data/any.h5ad", home=tmp_path).obs["type"]) == labels
