"""The Galaxy tool's jobs, as Galaxy's own code prepares them, run in bash with the real gateway."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anndata
import httpx
import numpy as np
import pytest
from galaxy_tool import DATA, HOSTILE, Galaxy, Job, words
from hub_fixtures import free_ports

import cxg_proxy
from datasets import labels_body
from waiting import until_now

pytest_plugins = ["galaxy_plugin"]
pytestmark = pytest.mark.timeout(300)  # the first test may have to install Galaxy


@pytest.fixture(scope="module")
def hostile_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a bad name, as an administrator may link one into a library, and with bad names in it."""
    random = np.random.default_rng(0)
    data = anndata.AnnData(random.random((30, 5)).astype(np.float32))
    name = HOSTILE.replace("\n", " ").replace("\r", " ")
    data.obs[name] = [f"cell {each}" for each in range(30)]
    data.var[name] = [f"gene {each}" for each in range(5)]
    data.layers[name] = data.X
    data.obsm[f"X_{name}"] = random.random((30, 2)).astype(np.float32)
    file = tmp_path_factory.mktemp("hostile") / f"{name.replace('/', '_')}.h5ad"
    data.write_h5ad(file)
    return file


def test_hostile_names_everywhere_start_a_viewer_and_nothing_else(galaxy: Galaxy, hostile_dataset: Path) -> None:
    name = HOSTILE.replace("\n", " ").replace("\r", " ")
    show = {"cell_names": name, "gene_names": name, "layer": name, "embeddings": [f"X_{name}"]}
    job = galaxy.job({"title": HOSTILE, "show": show, "check": "true"}, hostile_dataset, name=HOSTILE)
    assert words(job.command)[-1] == str(hostile_dataset)
    status, _, err = job.run()
    assert status == 0, err
    assert not list(job.folder.rglob("pwned"))


def test_the_command_for_the_version_says_it(galaxy: Galaxy) -> None:
    job = galaxy.job()
    with job.start(job.version_command) as process:
        process.communicate(timeout=50)
    assert (job.folder / "version").read_text().strip() == cxg_proxy.__version__


def test_labels_and_gene_sets_that_it_started_from_come_back(galaxy: Galaxy) -> None:
    starts = {"labels": DATA / "cell-labels.csv", "gene_sets": DATA / "gene-sets.csv"}
    job = galaxy.job({"check": "true", "show": {"layer": "lognorm"}}, **starts)
    status, _, err = job.run()
    assert status == 0, err
    assert galaxy.collect(job) == {
        "labels": [["annotations/cell-labels.csv", "csv"]],
        "gene_sets": [["annotations/gene-sets.csv", "csv"]],
        "annotated": [],
    }
    for name in ("cell-labels.csv", "gene-sets.csv"):
        assert (job.working / "annotations" / name).read_text() == (DATA / name).read_text()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("not_anndata.h5ad", "this is not an AnnData file (.h5ad)"),
        ("cut_off.h5ad", "cannot be read"),
        ("no_embedding.h5ad", "this file has no 2-D embedding, so there is nothing to draw"),
    ],
)
def test_a_dataset_that_cannot_be_shown_fails_the_job_with_a_sentence(galaxy: Galaxy, file: str, sentence: str) -> None:
    status, _, err = galaxy.job({"check": "true"}, DATA / file, name="blood cells").run()
    assert status == 1
    assert sentence in err
    assert "Traceback" not in err


def test_only_what_the_tool_returns_is_collected(galaxy: Galaxy) -> None:
    job = galaxy.job({"results": ["h5ad"]})
    for name in (
        "annotations/cell-labels.csv",
        "annotations/.cell-labels.csv.1234",
        "annotations/dataset.json",
        "annotations/history/cell-labels.csv",
        "results/annotated.h5ad",
        "results/annotated.h5ad.part",
        "results/other.h5ad",
    ):
        (job.working / name).parent.mkdir(parents=True, exist_ok=True)
        (job.working / name).write_text("x")
    assert galaxy.collect(job) == {
        "labels": [["annotations/cell-labels.csv", "csv"]],
        "gene_sets": [],
        "annotated": [["results/annotated.h5ad", "h5ad"]],
    }


@contextlib.contextmanager
def session(job: Job, **headers: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The job while somebody uses it, on a port of its own; `headers` are sent with every request."""
    (port,) = free_ports(1)
    assert " --port=8888 " in job.command
    address = f"http://127.0.0.1:{port}/"
    with job.start(job.command.replace("--port=8888", f"--port={port}")) as process:
        try:
            with httpx.Client(base_url=address, headers=headers, timeout=20) as client:
                until_now(lambda: process.poll() is not None or answers(client))
                assert process.poll() is None, process.communicate()[1]
                yield process, client
        finally:
            process.terminate()


def answers(client: httpx.Client) -> bool:
    """Whether the gateway says that it runs; it says so without a token, and nothing else."""
    with contextlib.suppress(httpx.TransportError):
        return client.get("api/health", headers={"Authorization": ""}).status_code == 200
    return False


def test_stop_leaves_the_labels_that_were_made_to_be_collected(galaxy: Galaxy) -> None:
    job = galaxy.job(name="pbmc", gene_sets=DATA / "gene-sets.csv")
    path, _, query = job.environment["CXG_GALAXY_ENTRY_POINT"].partition("?")
    headers = {"X-Galaxy-Entry-Point-Path": path.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    with session(job, **headers) as (process, client):
        assert client.get("api/datasets").status_code == 403
        opened = client.get(f"?{query}", headers={"Accept": "text/html"})
        assert "/interactivetool/ep/" in opened.headers["Set-Cookie"]
        client.headers["Authorization"] = "token " + query.partition("=")[2]
        view = "view/dataset/pbmc.h5ad/"
        assert client.get(view, headers={"Accept": "text/html"}).status_code == 200
        until_now(lambda: client.get("api/progress/dataset/pbmc.h5ad").json()["phase"] == "ready", seconds=50)
        saved = client.put(view + "api/v0.2/annotations/obs", content=labels_body(150, "T cell"))
        assert saved.status_code == 200
        process.terminate()
        said = "".join(process.communicate(timeout=20))
    assert process.returncode == 0
    for secret in (query.partition("=")[2], job.environment["CXG_GALAXY_API_KEY"]):
        assert secret not in said
    (labels, _), *others = galaxy.collect(job)["labels"]
    assert not others
    assert (job.working / labels).read_text().count("T cell") == 150
    assert [name for name, _ in galaxy.collect(job)["gene_sets"]] == ["annotations/gene-sets.csv"]
