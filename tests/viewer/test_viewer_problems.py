"""Files that cannot be shown: each ends in a sentence that says what, which and what next."""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

from places import CHECKOUT
from viewer_fixtures import cells, failure, worker

pytest_plugins = ["viewer_plugin"]


def text(path: Path) -> None:
    path.write_text("cell,gene\n")


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(b"x" * 99))


def loom(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["matrix"] = np.zeros((2, 2))
        file.create_group("row_attrs")


def cut(path: Path) -> None:
    cells(2000).write_h5ad(path)
    os.truncate(path, path.stat().st_size // 2)


def scrambled(path: Path) -> None:
    data = cells(2000)
    data.write_h5ad(path, compression="gzip")
    with h5py.File(path) as file:
        where = file["X"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(where.byte_offset)
        raw.write(os.urandom(where.size))


def flat(path: Path) -> None:
    data = cells()
    for name in list(data.obsm):
        del data.obsm[name]
    data.write_h5ad(path)


def infinite(path: Path) -> None:
    data = cells(umap=np.full((60, 2), np.inf))
    del data.obsm["X_tsne"]
    data.write_h5ad(path)


def twins(path: Path) -> None:
    data = cells()
    data.obs_names = ["same"] * data.n_obs
    data.write_h5ad(path)


def nobody(path: Path) -> None:
    data = anndata.AnnData(np.zeros((0, 3), dtype=np.float32))
    data.obsm["X_umap"] = np.zeros((0, 2))
    data.write_h5ad(path)


def missing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (missing, "DatasetNotFound", "bad.h5ad"),
        (Path.mkdir, "NotH5ad", "it is a directory"),
        (os.mkfifo, "NotH5ad", "it is not an ordinary file"),
        (Path.touch, "NotH5ad", "it is empty"),
        (text, "NotH5ad", "bad.h5ad"),
        (packed, "NotH5ad", "compressed with gzip"),
        (loom, "NotH5ad", ".loom"),
        (cut, "DamagedFile", "truncated"),
        (flat, "NoEmbedding", "bad.h5ad"),
        (infinite, "NoEmbedding", "bad.h5ad"),
        (twins, "NotViewable", "must be unique"),
        (nobody, "NotViewable", "0 cells"),
    ],
)
@pytest.mark.hazard(24)
def test_a_file_that_cannot_be_shown(tmp_path: Path, make: Callable[[Path], object], kind: str, words: str) -> None:
    path = tmp_path / "bad.h5ad"
    make(path)
    problem = failure(path)
    assert problem["kind"] == kind
    assert problem["which"] == "bad.h5ad"
    assert words in problem["sentence"]
    assert problem["steps"]


@pytest.mark.parametrize("cached", [True, False], ids=["with a store", "in memory"])
def test_of_a_matrix_that_cannot_be_read_the_rest_is_shown_and_why_is_said(tmp_path: Path, cached: bool) -> None:
    path = tmp_path / "bad.h5ad"
    scrambled(path)
    with worker(path, extra=["--cache", str(tmp_path / "cache")] if cached else []) as server:
        assert server.api("layout/obs", Accept="application/octet-stream").status == 200
        reply = server.api("data/var?var:name_0=gene1", Accept="application/octet-stream")
        assert reply.status == 422
        assert reply.json["kind"] == "DamagedFile"
        while "bad.h5ad" not in server.steps[-1].get("note", ""):
            assert server.next_step() is not None


@pytest.mark.hazard(24)
def test_plain_cellxgene_says_the_same_of_every_file(tmp_path: Path) -> None:
    code = (
        "import sys; from server.common.config.app_config import AppConfig\n"
        "for path in sys.argv[1:]:\n"
        "    config = AppConfig()\n"
        "    config.update_server_config(single_dataset__datapath=path, app__flask_secret_key='x')\n"
        "    try: config.complete_config()\n"
        "    except Exception as error: print(error)\n"
    )
    paths = []
    for make in (text, packed, loom, cut, scrambled):
        paths.append(tmp_path / f"{make.__name__}.h5ad")
        make(paths[-1])
    said = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True).stdout
    assert len(said.splitlines()) == len(paths)
    assert set(said.splitlines()) == {
        "File not found or is inaccessible. File must be an .h5ad object. Please check your input and try again."
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_file_of_somebody_else(small: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(small, "/tmp/cxgw-private.h5ad"))
    try:
        path.chmod(0o600)
        code = "import os, sys; from cxg_proxy.viewer.source import h5ad; os.setgroups([]); os.setuid(65534);"
        command = [sys.executable, "-c", code + "h5ad.check(sys.argv[1])", path]
        tried = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
        assert "NotReadable: cxgw-private.h5ad: the file is not readable by you." in tried.stderr
    finally:
        path.unlink()


def test_options_that_do_not_fit_the_file(small: Path) -> None:
    problem = failure(small, options={"embeddings": ["spatial"]})
    assert problem["kind"] == "BadOptions"
    assert "embeddings is spatial, but the file has tsne, umap" in problem["sentence"]
    problem = failure(small, options={"obs_names": "barcode"})
    assert problem["kind"] == "BadOptions"
    assert "obs has kind, size" in problem["sentence"]
