"""The names of cells, read from files of any age as anndata itself reads them."""

import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxg_proxy.annotations import identifiers_digest
from cxg_proxy.viewer.source import cell_names
from viewer_fixtures import cells
from viewer_samples import summarize

WILD = ["a,b", 'with "quotes"', "#first", "=1+1", "🧬", "x" * 200, "é\t", " "]
INDEXES: dict[str, Any] = {
    "text": pd.Index(WILD),
    "categories": pd.CategoricalIndex(list("abcdefgh")),
    "whole numbers": pd.Index(range(8)),
    "numbers": pd.Index([0.1, 1e16, 1.0, 2.5, 3.0, -1.0, 1e-7, 4.0]),
    "nullable text": pd.Index(pd.array([*WILD[:7], None], dtype="string")),
    "the same twice": pd.Index(["a"] * 8),
}


def read(path: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old files, and of names that are not unique or no text
        return [str(name) for name in anndata.read_h5ad(path).obs_names]


def rewritten(path: Path, index: pd.Index) -> None:
    """Give the file's cells an index that AnnData would not let them have today."""
    with h5py.File(path, "a") as file, anndata.settings.override(allow_write_nullable_strings=True):
        obs = anndata.io.read_elem(file["obs"]).iloc[: len(index)]
        obs.index = index
        del file["obs"]
        anndata.io.write_elem(file, "obs", obs)


@pytest.mark.parametrize("kind", INDEXES)
def test_names_are_those_that_anndata_reads(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kinds.h5ad"
    cells(8).write_h5ad(path)
    rewritten(path, INDEXES[kind])
    assert cell_names.identifiers(str(path)) == identifiers_digest(read(path))
    (found,) = summarize(path)
    assert (found["identifiers"], found["problem"]) == (cell_names.identifiers(str(path)), None)


def test_files_older_than_groups_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "old.h5ad"
    cells(8).write_h5ad(path)
    with h5py.File(path, "a") as file:
        del file["obs"]
        names = [
            name if name.isascii() else "ascii" + str(len(name)) for name in WILD
        ]  # anndata reads no others from such a file
        table = np.array([(name.encode(), 1.5) for name in names], dtype=[("index", "S200"), ("size", "f8")])
        file.create_dataset("obs", data=table)
    assert cell_names.identifiers(str(path)) == identifiers_digest(names) == identifiers_digest(read(path))


def test_another_column_can_name_the_cells(tmp_path: Path) -> None:
    path = tmp_path / "named.h5ad"
    data = cells(8)
    data.obs["barcode"] = WILD
    data.obs["kind"] = pd.Categorical(["B", "T", None, "B"] * 2)
    data.write_h5ad(path)
    with h5py.File(path) as file:
        assert list(cell_names.names(file["obs"], "barcode")) == WILD
        assert list(cell_names.names(file["obs"], "kind")) == ["B", "T", "nan", "B"] * 2


def test_the_digest_is_told_by_a_new_place_and_not_by_other_cells(tmp_path: Path) -> None:
    one, other, moved = (tmp_path / f"{name}.h5ad" for name in ("one", "other", "moved"))
    cells(8).write_h5ad(one)
    cells(8)[::-1].write_h5ad(other)
    one.rename(moved)
    found = cell_names.identifiers(str(moved))
    assert found == identifiers_digest(f"cell#{number}" for number in range(8))
    assert cell_names.identifiers(str(other)) != found
    assert cell_names.identifiers(str(one)) is None


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.h5ad"
    cells(50).write_h5ad(path)
    whole = cell_names.identifiers(str(path))
    monkeypatch.setattr(cell_names, "_BLOCK_ROWS", 7)
    assert cell_names.identifiers(str(path)) == whole is not None


def test_who_has_no_time_gets_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "some.h5ad"
    cells(8).write_h5ad(path)
    with h5py.File(path) as file:
        assert cell_names.digest(file, seconds=-1) is None


@pytest.mark.parametrize("damage", ["no obs", "no index", "an index of nothing", "endless", "a group in a group"])
def test_a_damaged_file_has_no_digest(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.h5ad"
    cells(8).write_h5ad(path)
    with h5py.File(path, "a") as file:
        if damage == "no obs":
            del file["obs"]
        else:
            del file["obs"]["_index"]
        if damage == "an index of nothing":
            file["obs"]["_index"] = h5py.Empty("f4")
        elif damage == "endless":
            file["obs"].create_dataset("_index", shape=(10**12,), dtype="i1", chunks=(10**6,))
        elif damage == "a group in a group":
            file["obs"].create_group("_index/values/more")
    assert cell_names.identifiers(str(path)) is None


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    wild=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1)
)
def test_any_text_can_name_a_cell(tmp_path: Path, wild: list[str]) -> None:
    path = tmp_path / "wild.h5ad"
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "obs", pd.DataFrame(index=pd.Index(wild, dtype=object)))
    assert cell_names.identifiers(str(path)) == identifiers_digest(wild)
