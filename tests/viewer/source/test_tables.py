"""The tables of a file: their index, columns and rows, as every version of anndata has written them."""

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from cxg_proxy.viewer.source import tables

INDEXES: dict[str, Any] = {
    "text": pd.Index(["a", "b", "c"]),
    "a name": pd.Index(["a", "b", "c"], name="barcode"),
}


def written(path: Path, obs: pd.DataFrame) -> Path:
    anndata.AnnData(np.ones((len(obs), 1), np.float32), obs=obs).write_h5ad(path)
    return path


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES.keys())
def test_a_table_of_today(index: Any, tmp_path: Path) -> None:
    obs = pd.DataFrame({"b": [1, 2, 3], "a": pd.Categorical(["x", "y", "x"])}, index=index)
    with h5py.File(written(tmp_path / "a.h5ad", obs), "r") as file:
        assert tables.index_name(file["obs"]) == (index.name or "_index")
        assert tables.columns(file["obs"]) == ["b", "a"]
        assert tables.count(file["obs"]) == 3
        ((name, codes, labels),) = tables.categoricals(file["obs"])
        assert (name, list(codes), [label.decode() for label in labels]) == ("a", [0, 1, 0], ["x", "y"])


def test_a_table_of_anndata_0_7(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        obs = file.create_group("obs")
        obs.attrs["_index"], obs.attrs["column-order"] = np.bytes_(b"names"), np.array([b"kind", b"n"])
        obs["names"], obs["kind"], obs["n"] = [b"a", b"b"], [1, 0], [5, 6]
        obs["__categories/kind"] = [b"x", b"y"]
        assert tables.index_name(obs) == "names"
        assert tables.columns(obs) == ["kind", "n"]
        assert tables.count(obs) == 2
        ((name, codes, labels),) = tables.categoricals(obs)
        assert (name, list(codes), list(labels)) == ("kind", [1, 0], [b"x", b"y"])


def test_a_table_without_an_order_has_all_but_its_index_and_its_categories(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["obs/_index"], file["obs/a"], file["obs/b"] = [b"x"], [1], [2]
        file.create_group("obs/__categories")
        assert tables.columns(file["obs"]) == ["a", "b"]


def test_a_table_before_anndata_0_7_is_one_dataset(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["obs"] = np.zeros(4, [("index", "S3"), ("n", "<i8")])
        assert tables.index_name(file["obs"]) == "index"
        assert tables.columns(file["obs"]) == ["n"]
        assert tables.count(file["obs"]) == 4
        assert list(tables.categoricals(file["obs"])) == []


@pytest.mark.parametrize("inside", ["values", "codes"])
def test_an_index_may_be_a_group(inside: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file[f"obs/_index/{inside}"] = [1, 2, 3]
        assert tables.count(file["obs"]) == 3


def test_a_malformed_table_has_no_count(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_group("obs")
        file.create_group("var/_index")
        file["scalar/_index"] = 3
        assert [tables.count(file[name]) for name in ("obs", "var", "scalar")] == [None] * 3
