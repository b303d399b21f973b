"""What labels and gene sets become in a file: of any age, under any name."""

from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotated_copies import KINDS, SETS, a_home, a_rich_dataset, annotate, read, save  # noqa: F401 - fixtures
from cxg_proxy.annotations.alignment import ordered
from cxg_proxy.annotations.tables import GeneSet
from cxg_proxy.viewer.jobs.annotate import enrich
from viewer_fixtures import cells


def test_names_that_no_file_can_hold_are_replaced_and_said(rich: Path, where: Path, tmp_path: Path) -> None:
    names = ["CD4/CD8", "CD4_CD8", ".", "_index", "__categories", "a.b", "kind_2"]
    save(where, **{name: [name] * 60 for name in names})
    steps = annotate(rich, where, tmp_path / "out.h5ad")
    assert "The category 'CD4/CD8' is the column 'CD4_CD8'" in steps[-1]["note"]
    data = read(tmp_path / "out.h5ad")
    found = {column: data.obs[column].iloc[0] for column in data.obs.columns[2:]}
    assert sorted(found.values()) == sorted(names)
    assert found["CD4_CD8"] == "CD4/CD8"
    assert found["CD4_CD8_2"] == "CD4_CD8"


def test_a_table_of_the_datasets_own_called_gene_sets_stays(rich: Path, where: Path, tmp_path: Path) -> None:
    with h5py.File(rich, "a") as file:
        anndata.io.write_elem(file["uns"], "gene_sets", {"mine": np.array(["gene5"])})
    save(where, *SETS)
    first, again = tmp_path / "first.h5ad", tmp_path / "again.h5ad"
    steps = annotate(rich, where, first)
    assert "uns['cellxgene_gene_sets']" in steps[-1]["note"]
    data = read(first)
    assert data.uns["gene_sets"]["mine"].tolist() == ["gene5"]
    assert len(data.uns["cellxgene_gene_sets"]) == 4
    with h5py.File(first, "a") as file:
        del file["uns/gene_sets"]
        file.move("uns/cellxgene_gene_sets", "uns/gene_sets")
    save(where, SETS[0])
    assert "note" not in annotate(first, where, again)[-1]
    assert len(read(again).uns["gene_sets"]) == 2


def as_in_0_7(path: Path) -> None:
    """Write obs as AnnData 0.7 did: categories in a group of their own, and other versions of the encoding."""
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        obs.attrs["encoding-version"] = "0.1.0"
        codes, labels = obs["kind/codes"][:], obs["kind/categories"][:]
        del obs["kind"]
        obs["kind"] = codes
        obs["__categories/kind"] = labels
        obs["__categories/kind"].attrs["ordered"] = False
        obs["kind"].attrs["categories"] = obs["__categories/kind"].ref


def as_before_0_7(path: Path) -> None:
    """One table for obs and one for var, with the categories in uns."""
    with h5py.File(path, "a") as file:
        names, codes, labels = (file[f"obs/{name}"][:] for name in ("_index", "kind/codes", "kind/categories"))
        genes, sizes = file["var/_index"][:], file["obs/size"][:]
        del file["obs"], file["var"], file["uns"], file.attrs["encoding-type"], file.attrs["encoding-version"]
        rows = list(zip(names, codes, sizes, strict=True))
        file["obs"] = np.array(rows, dtype=[("index", "S20"), ("kind", "i1"), ("size", "f4")])
        file["var"] = np.array([(gene, number % 2) for number, gene in enumerate(genes)], "S20,i1")
        file["var"].attrs["about"] = "names only"
        file["uns/kind_categories"] = labels
        file["uns/f1_categories"] = np.array([b"odd", b"even"])
        file["uns/kept"] = 5


@pytest.mark.parametrize("age", [as_in_0_7, as_before_0_7])
def test_files_of_any_age_are_annotated(tmp_path: Path, where: Path, age: Callable[[Path], None]) -> None:
    path, output = tmp_path / "old.h5ad", tmp_path / "out.h5ad"
    cells().write_h5ad(path)
    age(path)
    save(where, SETS[0], mine=KINDS)
    annotate(path, where, output)
    original, data = read(path), read(output)
    assert data.obs["mine"].tolist() == KINDS
    assert len(data.uns.pop("gene_sets")) == 2
    pd.testing.assert_frame_equal(data.obs.drop(columns="mine"), original.obs)
    pd.testing.assert_frame_equal(data.var, original.var)
    assert data.obs["kind"].cat.categories.tolist() == ["B", "NK", "T"]
    assert data.uns.pop("cellxgene_categories").tolist() == ["mine"]
    assert set(data.uns) == set(original.uns)
    assert np.array_equal(data.X, original.X)
    assert np.array_equal(data.obsm["X_umap"], original.obsm["X_umap"])


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, st.lists(TEXTS, min_size=6, max_size=6), max_size=4), st.lists(st.tuples(TEXTS, TEXTS)))
def test_any_names_and_labels_come_back(
    tmp_path: Path, labels: dict[str, list[str]], genes: list[tuple[str, str]]
) -> None:
    path = tmp_path / "wild.h5ad"
    path.unlink(missing_ok=True)
    cells(6).write_h5ad(path)
    sets = {name: GeneSet(name, text, tuple(genes)) for name, (text, *_) in labels.items()}
    enrich(str(path), labels, sets)
    data = read(path)
    assert [data.obs[column].tolist() for column in data.obs.columns[2:]] == list(labels.values())
    assert all(data.obs[column].cat.categories.tolist() == ordered(data.obs[column]) for column in data.obs.columns[2:])
