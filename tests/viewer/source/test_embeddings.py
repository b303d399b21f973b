"""The embeddings that are drawn: those that cellxgene draws, for the list as for the viewer."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from cxg_proxy.errors import NotViewable
from cxg_proxy.viewer.source import embeddings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # cellxgene warns while it is imported
    from server.data_anndata.anndata_adaptor import AnndataAdaptor

CELLS = 30
PLANE = np.arange(2.0 * CELLS).reshape(CELLS, 2)


def holding(value: float, column: int = 0, row: int = 7, columns: int = 2) -> Any:
    array = np.arange(float(columns) * CELLS).reshape(CELLS, columns)
    array[row, column] = value
    return array


ARRAYS: dict[str, Any] = {
    "float64": PLANE,
    "float32": PLANE.astype(np.float32),
    "integers": PLANE.astype(np.int64),
    "unsigned": PLANE.astype(np.uint8),
    "many columns": np.ones((CELLS, 50)),
    "truth": PLANE > 3,
    "text": PLANE.astype("S3"),
    "one column": PLANE[:, :1],
    "one dimension": PLANE[:, 0],
    "three dimensions": np.ones((CELLS, 2, 2)),
    "too few cells": PLANE[:-1],
    "some NaN": holding(np.nan),
    "only NaN": np.full((CELLS, 2), np.nan),
    "a number in the third column": np.hstack([np.full((CELLS, 2), np.nan), np.ones((CELLS, 1))]),
    "infinity": holding(np.inf),
    "negative infinity at the end": holding(-np.inf, 1, CELLS - 1),
    "infinity in the third column": holding(np.inf, 2, 7, 3),
}


def drawn_by_cellxgene(array: Any) -> bool:
    adaptor = SimpleNamespace(data=SimpleNamespace(n_obs=CELLS))
    # With one dimension cellxgene fails at this check, with three at the reply.
    return array.ndim == 2 and bool(AnndataAdaptor._is_valid_layout(adaptor, array))


@pytest.fixture(name="file", params=[8 * 1024**2, 1], ids=["at once", "row by row"])
def a_file_with_all_of_them(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(embeddings, "_BLOCK_BYTES", request.param)
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        obsm = file.create_group("obsm")
        for name, array in ARRAYS.items():
            obsm[f"X_{name}"] = array
        obsm["spatial"] = PLANE
        obsm.create_group("X_group")
        yield file


def test_those_are_drawn_that_cellxgene_draws(file: Any) -> None:
    expected = sorted(name for name, array in ARRAYS.items() if drawn_by_cellxgene(array))
    assert sorted(embeddings.drawable(file, CELLS, "a.h5ad")) == expected
    assert sorted(name[2:] for name, _ in embeddings.read(file, CELLS, "a.h5ad")) == expected


def test_what_is_read_holds_two_columns_or_one_more_that_makes_cellxgene_draw_it(file: Any) -> None:
    for name, array in embeddings.read(file, CELLS, "a.h5ad"):
        whole = ARRAYS[name[2:]]
        assert array.dtype == whole.dtype
        np.testing.assert_array_equal(array[:, :2], whole[:, :2])
        assert array.shape[1] == (3 if name == "X_a number in the third column" else 2)
        assert drawn_by_cellxgene(array)


def test_the_kinds_are_those_of_all_that_may_be_drawn(file: Any) -> None:
    found = embeddings.kinds(file)
    assert {name[2:] for name, _ in embeddings.read(file, CELLS, "a.h5ad")} < {name[2:] for name in found}
    assert found["X_float32"] == np.float32
    assert "spatial" not in found


def test_an_embedding_before_anndata_0_7_is_a_field_of_one_table(tmp_path: Path) -> None:
    kinds = np.dtype([("X_umap", "<f4", (2,)), ("X_bad", "<f4", (2,)), ("X_flat", "<f4"), ("other", "<f4", (2,))])
    table = np.zeros(CELLS, kinds)
    table["X_bad"][3] = np.inf
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["obsm"] = table
        assert embeddings.drawable(file, CELLS, "a.h5ad") == ["umap"]
        assert [name for name, _ in embeddings.read(file, CELLS, "a.h5ad")] == ["X_umap"]


def test_a_very_large_embedding_is_judged_by_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(embeddings, "_SAMPLE_BLOCKS", 10)
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["obsm/X_seen"], file["obsm/X_unseen"] = holding(np.inf, row=3), holding(np.inf, row=4)
        assert embeddings.drawable(file, CELLS, "a.h5ad") == ["unseen"]
        assert list(embeddings.read(file, CELLS, "a.h5ad")) == []


@pytest.mark.parametrize("call", [embeddings.drawable, lambda *given: list(embeddings.read(*given))])
def test_an_embedding_in_another_file_is_refused(call: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["place"] = PLANE
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["obsm/X_umap"] = h5py.ExternalLink("other.h5", "/place")
        with pytest.raises(NotViewable, match="lies in another file"):
            call(file, CELLS, "a.h5ad")


def test_a_file_without_embeddings_has_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        assert embeddings.drawable(file, CELLS, "a.h5ad") == []
        assert list(embeddings.read(file, CELLS, "a.h5ad")) == []
        assert embeddings.kinds(file) == {}
