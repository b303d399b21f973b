"""What is read of a dataset without its matrix is what anndata reads, and cellxgene answers the same from it."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from server.common.config.app_config import AppConfig
from server.common.constants import Axis

from cxg_proxy.errors import BadOptions, DamagedFile, NotH5ad, NotViewable
from cxg_proxy.viewer.dataset import metadata
from cxg_proxy.viewer.store import build, store
from cxg_proxy.viewer.store.origin import Origin
from pbmc import PBMC
from viewer_samples import older

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks anndata for its version in a way of the past
    from server.data_anndata.anndata_adaptor import AnndataAdaptor


class Plain(AnndataAdaptor):
    """cellxgene's own adaptor on an AnnData that is there already."""

    def _load_data(self, data_locator: Any) -> None:
        self.data = data_locator.data


def answers(data: anndata.AnnData, **chosen: Any) -> dict[str, Any]:
    """What cellxgene answers from everything but the matrix."""
    config = AppConfig()
    config.update_server_config(**chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adaptor = Plain(SimpleNamespace(data=data), config)
        return {
            "schema": adaptor.get_schema(),
            "colors": adaptor.get_colors(),
            "corpora": adaptor.get_corpora_props(),
            "layout": {
                name: adaptor.get_embedding_array(name).tobytes() + adaptor.get_embedding_array(name).dtype.str.encode()
                for name in adaptor.get_embedding_names()
            },
            "obs": bytes(adaptor.annotation_to_fbs_matrix(Axis.OBS)),
            "var": bytes(adaptor.annotation_to_fbs_matrix(Axis.VAR)),
        }


def whole(path: Path, layer: str | None = None) -> anndata.AnnData:
    """The dataset as cellxgene has it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = anndata.read_h5ad(path)
        if layer == "raw":
            return data.raw.to_adata()
        if layer is not None:
            data.X = data.layers[layer]
        return data


def both(path: Path, tmp_path: Path, layer: str | None = None) -> list[anndata.AnnData]:
    """The rest from the file itself, and from its store."""
    found = metadata.read(Origin.of(str(path), layer))
    into = tmp_path / "store"
    into.mkdir()
    build.build(Origin.of(str(path), layer), into, memory=1 << 24, report=lambda _: None, cancelled=lambda: False)
    kept = store.Store.open(into, Origin.of(str(path), layer).fingerprint)
    assert (found.shape, found.dtype) == (kept.shape, kept.dtype)
    return [found.data, metadata.read_small(kept.rest)]


def same(path: Path, tmp_path: Path, layer: str | None = None) -> None:
    expected = whole(path, layer)
    for data in both(path, tmp_path, layer):
        pd.testing.assert_frame_equal(data.obs, expected.obs)
        pd.testing.assert_frame_equal(data.var, expected.var)
        assert data.X is None
        data.X = expected.X.copy()
        assert answers(shown(data)) == answers(shown(expected))


def shown(data: anndata.AnnData) -> anndata.AnnData:
    """The same without what cellxgene fails over: columns of numbers with gaps, and tables beside embeddings."""
    data = data.copy()
    data.obsm.pop("X_table", None)
    data.obs = data.obs.drop(columns=["whole", "maybe"], errors="ignore")
    return data


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """One of everything that obs, obsm and uns may hold."""
    random = np.random.default_rng(4)
    data = anndata.AnnData(sparse.random(60, 12, 0.3, "csr", "f4", random))
    data.obs_names = [f"cell#{number}·é" for number in range(60)]
    data.obs["kind"] = pd.Categorical([("B", "T", None)[number % 3] for number in range(60)], ["T", "B", "unused"])
    data.obs["grade"] = pd.Categorical(random.integers(0, 3, 60), ordered=True)
    data.obs["flag"] = random.random(60) < 0.5
    data.obs["text"] = [f"t{number}" for number in range(60)]
    for number, dtype in enumerate(["i1", "i2", "i4", "i8", "u1", "u4", "f2", "f4", "f8"]):
        data.obs[f"n{number}"] = random.integers(0, 100, 60).astype(dtype)
    data.obs["whole"] = pd.array([1, None, 3] * 20, dtype="Int32")
    data.obs["maybe"] = pd.array([True, None, False] * 20, dtype="boolean")
    data.obs = data.obs[
        sorted(data.obs.columns, reverse=True)
    ]  # the order of columns is the file's, not the alphabet's
    data.var["score"] = random.random(12)
    data.raw = data
    data.layers["flat"] = random.integers(0, 5, (60, 12))
    for name, width, dtype in (("X_umap", 2, "f4"), ("X_pca", 30, "f8"), ("X_grid", 3, "i4"), ("other", 2, "f4")):
        data.obsm[name] = (random.random((60, width)) * 9).astype(dtype)
    data.obsm["X_one"] = random.random((60, 1))
    data.obsm["X_inf"] = np.where(random.random((60, 5)) < 0.01, np.inf, 1.0)
    data.obsm["X_inf"][7, 4] = np.inf
    data.obsm["X_nan"] = np.full((60, 2), np.nan)
    data.obsm["X_late"] = np.full((60, 4), np.nan)
    data.obsm["X_late"][50, 3] = 1
    data.obsm["X_table"] = pd.DataFrame({"a": random.random(60), "b": 1.0}, index=data.obs_names)
    data.obsm["X_sparse"] = sparse.random(60, 2, 0.5, "csr", "f4", random)
    data.obsp["near"] = sparse.random(60, 60, 0.1, "csr", "f4", random)
    data.uns["kind_colors"] = np.array(["red", "#00ff00", "#0000FF"])
    data.uns["grade_colors"] = ["#000000"] * 3
    data.uns["version"] = {"corpora_schema_version": "1.0.0", "corpora_encoding_version": "0.1.0"}
    data.uns |= {"title": "T", "layer_descriptions": {"X": "raw"}, "organism": "h", "organism_ontology_term_id": "n"}
    data.uns["contributors"] = '[{"name": "A"}]'
    data.uns["large"] = {"deep": random.random((500, 500))}
    data.write_h5ad(tmp_path / "rich.h5ad", compression="gzip")
    return tmp_path / "rich.h5ad"


@pytest.mark.parametrize("layer", [None, "flat", "raw"])
def test_everything_but_the_matrix_is_as_anndata_reads_it(rich: Path, tmp_path: Path, layer: str | None) -> None:
    same(rich, tmp_path, layer)


def test_only_what_the_viewer_shows_is_kept(rich: Path, tmp_path: Path) -> None:
    for data in both(rich, tmp_path):
        assert {name: data.obsm[name].shape[1] for name in data.obsm} == {
            "X_umap": 2,
            "X_pca": 2,
            "X_grid": 2,
            "X_late": 3,
        }
        assert "large" not in data.uns
        assert not len(data.obsp)
    assert (tmp_path / "store" / store.METADATA).stat().st_size < 200_000


def test_raw_has_genes_of_its_own(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    full = anndata.AnnData(random.random((20, 9)), obsm={"X_umap": random.random((20, 2))})
    full.var["high"] = random.random(9)
    data = full[:, 3:7].copy()
    data.raw = full
    data.write_h5ad(tmp_path / "raw.h5ad")
    same(tmp_path / "raw.h5ad", tmp_path, "raw")
    assert metadata.read(Origin.of(str(tmp_path / "raw.h5ad"), "raw")).shape == (20, 9)
    assert metadata.read(Origin.of(str(tmp_path / "raw.h5ad"))).shape == (20, 4)


def test_the_real_dataset_is_the_same(tmp_path: Path) -> None:
    same(PBMC, tmp_path)


@pytest.mark.parametrize("layer", [None, "raw"])
def test_a_file_from_before_anndata_0_7_is_put_together_again(tmp_path: Path, layer: str | None) -> None:
    same(older(tmp_path / "old.h5ad"), tmp_path, layer)
    kind = metadata.read(Origin.of(str(tmp_path / "old.h5ad"), layer)).data.obs["kind"]
    assert list(kind.cat.categories) == ["B", "T", "NK"]


def test_categories_that_are_pointed_to_are_found_in_the_copy(tmp_path: Path) -> None:
    """As AnnData 0.7 wrote them."""
    data = anndata.AnnData(np.ones((4, 3)), obsm={"X_umap": np.ones((4, 2))})
    data.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        obs = file["obs"]
        obs["kind"] = np.array([1, 0, 1, -1], "i1")
        obs["__categories/kind"] = np.array(["B", "T"], h5py.string_dtype())
        obs["kind"].attrs["categories"] = obs["__categories/kind"].ref
        obs["__categories/kind"].attrs["ordered"] = True
        obs.attrs["column-order"] = ["kind"]
        for table in (obs, file["var"]):
            table.attrs["encoding-version"] = "0.1.0"
    same(tmp_path / "a.h5ad", tmp_path)


def test_the_rest_is_read_without_the_matrix(tmp_path: Path) -> None:
    """A matrix that cannot be unpacked is not noticed, nor a layer far larger than memory."""
    data = anndata.AnnData(shape=(50, 10), obsm={"X_umap": np.ones((50, 2))})
    data.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        place = file.create_dataset("X", (50, 10), "f4", chunks=(50, 10), compression="gzip")
        place.id.write_direct_chunk((0, 0), b"not gzip")
        file["layers"].create_dataset("vast", (50, 2**50), "f8", chunks=(50, 100))
    assert metadata.read(Origin.of(str(tmp_path / "a.h5ad"))).shape == (50, 10)


@pytest.mark.parametrize("place", ["X", "obs", "var", "obs/size", "obsm/X_umap", "uns/kind_colors"])
@pytest.mark.parametrize("how", ["link", "external", "virtual"])
def test_nothing_is_taken_from_another_file(place: str, how: str, tmp_path: Path) -> None:
    """Or whoever prepares datasets for others would hand on what only they may read."""
    data = anndata.AnnData(np.ones((4, 3)), obsm={"X_umap": np.ones((4, 2))})
    data.obs["size"] = 1.0
    data.uns["kind_colors"] = np.ones(3)
    for name in ("a.h5ad", "secret.h5ad"):
        data.write_h5ad(tmp_path / name)
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        inside = f"{place}/_index" if place in ("obs", "var") else place
        old = file.pop(place if how == "link" else inside)
        if how == "link":
            file[place] = h5py.ExternalLink("secret.h5ad", place)
        elif how == "external":
            file.create_dataset(inside, old.shape, "f8", external=[(str(tmp_path / "secret.h5ad"), 0, old.size * 8)])
        else:
            file.create_virtual_dataset(inside, _virtual(old.shape, inside))
    with pytest.raises(NotViewable, match="lies in another file"):
        metadata.read(Origin.of(str(tmp_path / "a.h5ad")))


def _virtual(shape: tuple[int, ...], name: str) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(shape, "f8")
    layout[...] = h5py.VirtualSource("secret.h5ad", name, shape)
    return layout


@pytest.mark.parametrize(
    ("broken", "problem", "words"),
    [
        (lambda file: file.pop("X"), NotViewable, "it has no matrix X"),
        (lambda file: file.pop("obs"), NotH5ad, "in place of obs and var"),
        (lambda file: file["obs"].pop("size"), DamagedFile, "size"),
        (lambda file: file["var"].attrs.__setitem__("encoding-version", "9.0"), NotViewable, "9.0"),
        (lambda file: file["X"].attrs.__setitem__("shape", (59, 12)), NotViewable, "matrix is of 59 cells"),
        (lambda file: file["X"].attrs.__setitem__("shape", (0, 12)), NotViewable, "it holds 0 cells and 12 genes"),
        (lambda file: file["X"].attrs.__setitem__("encoding-type", "coo"), NotViewable, "of the kind coo"),
    ],
)
def test_what_is_wrong_is_told_in_the_users_words(tmp_path: Path, broken: Any, problem: Any, words: str) -> None:
    data = anndata.AnnData(sparse.random(60, 12, 0.3, "csr", "f4"), obsm={"X_umap": np.ones((60, 2))})
    data.obs["size"] = 1
    data.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        broken(file)
    with pytest.raises(problem, match=words):
        metadata.read(Origin.of(str(tmp_path / "a.h5ad")))


def test_a_layer_that_is_not_there_is_told(rich: Path) -> None:
    with pytest.raises(BadOptions, match="layer is 'nope'"):
        metadata.read(Origin.of(str(rich), "nope"))
