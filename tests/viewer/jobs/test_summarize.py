"""Summaries for the list of datasets: read without loading, whatever the file holds."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import psutil
import pytest
from scipy import sparse

from cxg_proxy.viewer.jobs.thumbnail import rainbow
from pbmc import write_pbmc
from places import CHECKOUT
from processes import gone
from viewer_fixtures import cells, until
from viewer_samples import summarize

pytest_plugins = ["viewer_plugin"]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("real") / "pbmc.h5ad"
    write_pbmc(path)
    return path


def test_a_real_dataset_is_described_and_drawn(real: Path) -> None:
    (found,) = summarize(real)
    assert (found["cells"], found["genes"], found["problem"]) == (700, 765, None)
    assert found["embeddings"] == ["pca", "umap"]
    assert found["categories"] == ["bulk_labels", "phase", "louvain"]
    assert {"bulk_labels", "phase", "louvain", "n_genes"} < set(found["columns"])
    drawn = found["preview"]
    assert (drawn["embedding"], drawn["category"]) == ("umap", "bulk_labels")
    assert len(drawn["x"]) == len(drawn["y"]) == len(drawn["color"]) == 700
    data = anndata.read_h5ad(real)
    assert drawn["palette"] == [color.lower() for color in data.uns["bulk_labels_colors"]]
    assert drawn["color"] == data.obs["bulk_labels"].cat.codes.tolist()
    umap = data.obsm["X_umap"]
    extent = (umap.max(axis=0) - umap.min(axis=0)).max()
    drawn_extent = np.array([max(drawn[axis]) - min(drawn[axis]) for axis in "xy"])
    assert np.allclose(drawn_extent, 1000 * (umap.max(axis=0) - umap.min(axis=0)) / extent, atol=2)
    assert drawn["y"][int(umap[:, 1].argmax())] == max(drawn["y"])  # y points up


def test_files_of_every_kind_are_answered_in_order(tmp_path: Path, real: Path) -> None:
    none = cells()
    del none.obsm["X_umap"], none.obsm["X_tsne"]
    none.write_h5ad(tmp_path / "none.h5ad")
    odd = cells(umap=np.full((60, 2), np.nan))
    odd.obsm["X_tsne"][3] = np.nan
    odd.obsm["X_sparse"] = sparse.csr_matrix(np.ones((60, 2)))
    odd.obsm["X_line"] = np.ones((60, 1))
    odd.obsm["X_far"] = np.full((60, 2), np.inf)
    del odd.uns["kind_colors"]
    odd.write_h5ad(tmp_path / "odd.h5ad")
    (tmp_path / "text.h5ad").write_text("text")
    (tmp_path / "cut.h5ad").write_bytes(real.read_bytes()[:100_000])
    os.mkfifo(tmp_path / "pipe.h5ad")
    hostile = os.fsencode(tmp_path) + b"/\xff 'x'\n.h5ad"
    with open(hostile, "wb") as file:
        file.write(real.read_bytes())
    names = ["none.h5ad", "odd.h5ad", "text.h5ad", "cut.h5ad", "pipe.h5ad", "missing.h5ad"]
    answers = summarize(*[tmp_path / name for name in names], hostile)
    kinds = [answer["problem"] and answer["problem"]["kind"] for answer in answers]
    assert kinds == ["NoEmbedding", None, "NotH5ad", "DamagedFile", "NotH5ad", "DatasetNotFound", None]
    assert (answers[0]["cells"], answers[0]["categories"]) == (60, ["kind"])
    drawn = answers[1]["preview"]
    assert answers[1]["embeddings"] == ["tsne"]
    assert len(drawn["x"]) == 59  # a cell without a place is not drawn
    assert drawn["palette"] == [rainbow(0), rainbow(1 / 3), rainbow(2 / 3)]


def test_a_file_that_claims_to_be_endless_wrecks_nothing(tmp_path: Path, real: Path) -> None:
    path = tmp_path / "endless.h5ad"
    rows = 10**12
    with h5py.File(path, "w") as file:
        for name in ("obs", "var"):
            file.create_group(name).attrs["_index"] = "index"
            file[name].create_dataset("index", shape=(rows,), dtype="i1", chunks=(10**6,))
        kind = file["obs"].create_group("kind")
        kind.create_dataset("codes", shape=(rows,), dtype="i1", chunks=(10**6,))
        kind.create_dataset("categories", data=[1, 2])
        file.create_dataset("X", shape=(rows, 2), dtype="f4", chunks=(1000, 2))
        file.create_dataset("obsm/X_umap", shape=(rows, 2), dtype="f4", chunks=(10**6, 2))
    endless, after = summarize(path, real)
    assert endless["cells"] == rows or endless["problem"]
    assert after["problem"] is None


@pytest.fixture
def endless_wait(tmp_path: Path) -> Path:
    """A dataset that holds up its reader for ever: what it draws from is in a pipe."""
    path, pipe = tmp_path / "waits.h5ad", tmp_path / "pipe"
    cells().write_h5ad(path)
    os.mkfifo(pipe)
    with h5py.File(path, "a") as file:
        file["obsm/X_a"] = h5py.ExternalLink(pipe, "/x")
    return path


def reader_of(path: Path, summaries: psutil.Process) -> psutil.Process | None:
    for child in summaries.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(file.path == str(path) for file in child.open_files()):
                return child
    return None


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, "nobody listens"])
def test_the_reader_of_a_file_that_holds_it_up_ends_with_the_summaries(endless_wait: Path, end: object) -> None:
    command = [sys.executable, "-m", "cxg_proxy.viewer", "summarize"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT) as summaries:
        assert summaries.stdin
        assert summaries.stdout
        summaries.stdin.write(json.dumps(str(endless_wait)).encode() + b"\n")
        summaries.stdin.flush()
        reader = until(lambda: reader_of(endless_wait, psutil.Process(summaries.pid)))
        try:
            if end == "nobody listens":
                summaries.stdout.close()
            else:
                summaries.send_signal(end)
            summaries.wait(10)
            until(lambda: gone(reader.pid), patience=10)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                reader.kill()  # psutil sees to it that it is still the same process


def test_a_large_dataset_is_sampled_alike_each_time(large: Path) -> None:
    first, second = summarize(large, large)
    assert first == second
    assert len(first["preview"]["x"]) == 2000
    assert len(set(first["preview"]["color"])) == 3


def test_a_line_that_is_no_path_is_answered_too() -> None:
    command = [sys.executable, "-m", "cxg_proxy.viewer", "summarize"]
    done = subprocess.run(command, input=b"nonsense\n{}\n", capture_output=True, check=True, cwd=CHECKOUT)
    assert [json.loads(line)["problem"]["kind"] for line in done.stdout.splitlines()] == ["Problem", "Problem"]


def test_the_rainbow_is_d3s() -> None:
    # Values of d3-scale-chromatic's interpolateRainbow.
    assert [rainbow(share) for share in (0, 0.25, 0.5, 0.75)] == ["#6e40aa", "#ff5e63", "#aff05b", "#1ac7c2"]


def test_summaries_need_neither_cellxgene_nor_anndata() -> None:
    code = "import sys, cxg_proxy.viewer.jobs.summarize; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=CHECKOUT).stdout.split()
    assert not {b"anndata", b"server", b"pandas", b"flask", b"scipy"} & set(loaded)
