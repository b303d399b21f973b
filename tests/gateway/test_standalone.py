"""One dataset shown alone: its viewer is the first page, and there is no list."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy import annotations
from cxg_proxy.gateway.library import library
from datasets import labels_body, write_dataset
from gateways import COMMAND, PAGE, SAME_SITE, Gateway, running_gateway
from waiting import until_now

pytestmark = pytest.mark.timeout(120)


@contextmanager
def alone(folder: Path, *options: str, python: str | None = None) -> Iterator[Gateway]:
    """A gateway for what its options name, without a library."""
    with running_gateway(folder, *options, python=python, library=False) as gateway:
        yield gateway


def viewer_of(gateway: Gateway) -> str:
    """Where the first page leads."""
    reply = gateway.get("/", **PAGE)
    assert reply.status == 302
    return "/" + reply.headers["Location"].removeprefix("./")


def test_the_first_page_is_the_viewer_and_nothing_leads_to_a_list(fake_file: Path, tmp_path: Path) -> None:
    with alone(tmp_path, str(fake_file)) as gateway:
        address = viewer_of(gateway)
        assert address == "/view/dataset/pbmc.h5ad/"
        assert gateway.open(address.removeprefix("/view/").removesuffix("/")) == address
        assert gateway.get(address + "cxg-proxy/state").json["library"] == ""
        page = gateway.get("/annotations/dataset/pbmc.h5ad", **PAGE)
        assert page.status == 200
        assert "Datasets" not in page.text
        (card,) = gateway.get("/api/datasets").json["datasets"]
        assert (card["label"], card["share"]) == ("pbmc", "")


def test_a_page_while_it_opens_has_no_cancel_that_would_begin_again(tmp_path: Path) -> None:
    (tmp_path / "slow.h5ad").write_bytes(b"x")
    with alone(tmp_path, "slow.h5ad") as gateway:
        page = gateway.get(viewer_of(gateway), **PAGE)
        assert 'id="phase"' in page.text
        assert "Cancel" not in page.text


def test_a_page_that_says_what_is_wrong_leads_to_no_list_and_only_elsewhere_to_the_viewer(tmp_path: Path) -> None:
    (tmp_path / "failing.h5ad").write_bytes(b"x")
    with alone(tmp_path, "failing.h5ad") as gateway:
        address = viewer_of(gateway)
        until_now(lambda: gateway.get(address, **PAGE).status == 422)
        at_the_viewer, elsewhere = gateway.get(address, **PAGE).text, gateway.get("/nothing/here", **PAGE).text
        listed = gateway.get("/instances", **PAGE).text
    assert "Try again" in at_the_viewer
    assert "Back to the viewer" not in at_the_viewer
    assert 'href="../">Back to the viewer</a>' in elsewhere
    for page in (at_the_viewer, elsewhere, listed):
        assert "Back to the datasets" not in page
        assert "Datasets" not in page


@pytest.fixture
def fake_file(tmp_path: Path) -> Path:
    (tmp_path / "pbmc.h5ad").write_bytes(b"x")
    return tmp_path / "pbmc.h5ad"


@pytest.mark.parametrize("title", ['T cells\' "markers" & <b>', "../../etc/passwd", "a/b\n.h5ad", "ü" * 300, " . "])
def test_a_title_of_any_letters_is_the_datasets_name(title: str, fake_file: Path, tmp_path: Path) -> None:
    with alone(tmp_path, str(fake_file), f"--title={title}") as gateway:
        address = viewer_of(gateway)
        assert re.fullmatch(r"/view/dataset/[\w.~-]+\.h5ad/", address)
        assert gateway.get(address, **PAGE).status == 200
        (card,) = gateway.get("/api/datasets").json["datasets"]
        assert card["label"] == library.file_name(title).removesuffix(".h5ad") or "\ufffd" in card["label"]


@given(st.text())
def test_a_title_makes_the_name_of_one_file(title: str) -> None:
    name = library.file_name(title)
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")
    assert name.endswith(".h5ad")
    assert len(os.fsencode(name.encode(errors="replace"))) <= 255


def test_a_real_file_of_any_suffix_is_opened_where_it_lies_with_labels_where_the_host_wants_them(
    tmp_path: Path,
) -> None:
    write_dataset(tmp_path / "here.h5ad").rename(tmp_path / "dataset_12.dat")
    file, labels = tmp_path / "dataset_12.dat", tmp_path / "annotations"
    before = (file.stat(), file.read_bytes())
    options = (
        str(file),
        "--title=My cells",
        f"--labels-folder={labels}",
        "--Gateway.frame_ancestors=https://host.example",
    )
    with alone(tmp_path, *options, python=sys.executable) as gateway:
        address = viewer_of(gateway)
        gateway.open("dataset/My~20cells.h5ad")
        policy = gateway.get(address, **PAGE).headers["Content-Security-Policy"]  # cellxgene's own page
        assert "unsafe-eval" in policy
        assert "frame-ancestors 'self' https://host.example;" in policy + ";"
        target = address + "api/v0.2/annotations/obs"
        assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "T cell")).status == 200
        until_now(lambda: "T cell" in gateway.get("/annotations/dataset/My~20cells.h5ad", **PAGE).text)
    assert "T cell" in (labels / annotations.LABELS).read_text()
    record = annotations.read_record(labels)
    assert record
    assert (record.name, record.path) == ("My cells.h5ad", str(file))
    after = file.stat()
    assert (before[0].st_ino, before[0].st_mtime_ns, before[1]) == (after.st_ino, after.st_mtime_ns, file.read_bytes())


@contextmanager
def in_a_terminal(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The real thing on a port, as a host starts it; what it says can be read at its end."""
    command = [*COMMAND, "--port=0", f"--home={folder / 'home'}", f"--Gateway.cache={folder / 'cache'}"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=10)


def ended(folder: Path, *options: str) -> tuple[int, str]:
    """Exit status and last words."""
    with in_a_terminal(folder, *options) as process:
        said = process.communicate(timeout=90)[1]
    return process.returncode, said


def test_a_check_says_what_the_viewer_shows_and_makes_the_copy(tmp_path: Path) -> None:
    file = write_dataset(tmp_path / "pbmc.h5ad")
    status, said = ended(tmp_path, "--check", "--annotated=results/annotated.h5ad", str(file))
    assert status == 0, said
    assert re.search(r"pbmc: the viewer shows 30 cells and \d+ genes; embeddings: umap", said)
    assert anndata.read_h5ad(tmp_path / "results" / "annotated.h5ad").n_obs == 30
    assert os.listdir(tmp_path / "results") == ["annotated.h5ad"]


@pytest.mark.parametrize(
    ("scene", "words"),
    [("not h5ad", "pbmc.h5ad: this is not an AnnData file"), ("no embedding", "embedding")],
)
def test_a_check_of_what_cannot_be_shown_ends_with_status_1_and_the_reason(
    scene: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "pbmc.h5ad"
    if scene == "not h5ad":
        file.write_text("cells,genes\n")
    else:
        anndata.AnnData(np.ones((3, 2), dtype=np.float32)).write_h5ad(file)
    status, said = ended(tmp_path, "--check", str(file))
    assert (status, "Traceback" in said) == (1, False)
    assert words in said.splitlines()[-1]


def test_an_idle_end_with_a_dataset_that_cannot_be_shown_has_status_1_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "pbmc.h5ad").write_text("cells,genes\n")
    status, said = ended(tmp_path, "--shutdown-when-idle-seconds=1", "pbmc.h5ad")
    assert status == 1
    assert "pbmc.h5ad: this is not an AnnData file" in said.splitlines()[-1]


def test_why_a_dataset_cannot_be_shown_is_said_at_once_to_whoever_reads_the_hosts_log(tmp_path: Path) -> None:
    (tmp_path / "pbmc.h5ad").write_text("cells,genes\n")
    with in_a_terminal(tmp_path, "pbmc.h5ad") as process:
        assert process.stderr
        assert "listens on" in process.stderr.readline()
        assert "pbmc.h5ad: this is not an AnnData file" in process.stderr.readline()


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_the_copy_is_renewed_after_a_save_and_at_an_idle_end_and_whole_at_every_instant(tmp_path: Path) -> None:
    file, copy = write_dataset(tmp_path / "pbmc.h5ad"), tmp_path / "results" / "annotated.h5ad"
    options = (str(file), f"--annotated={copy}", "--shutdown-when-idle-seconds=8")
    with alone(tmp_path, *options, python=sys.executable) as gateway:
        address = gateway.open("dataset/pbmc.h5ad")
        assert not copy.exists()
        target = address + "api/v0.2/annotations/obs"
        assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "T cell")).status == 200
        until_now(lambda: gateway.get("/api/instances") and copy.exists(), seconds=30)
        assert set(anndata.read_h5ad(copy).obs["mine"]) == {"T cell"}
        assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "B cell")).status == 200

        def renewed() -> bool:
            gateway.get("/api/instances")  # used until then, however long a busy machine takes
            return set(anndata.read_h5ad(copy).obs["mine"]) == {"B cell"}

        until_now(renewed, seconds=30)
        assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "NK")).status == 200
        assert gateway.process.wait(30) == 0
    assert set(anndata.read_h5ad(copy).obs["mine"]) == {"NK"}
    assert os.listdir(copy.parent) == [copy.name]


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_a_copy_that_cannot_be_written_is_said_in_the_log_and_labels_are_saved_all_the_same(tmp_path: Path) -> None:
    file = write_dataset(tmp_path / "pbmc.h5ad")
    (tmp_path / "results").write_text("a file where a folder should be")
    options = (
        str(file),
        f"--annotated={tmp_path / 'results' / 'annotated.h5ad'}",
        f"--labels-folder={tmp_path / 'kept'}",
    )
    with alone(tmp_path, *options, python=sys.executable) as gateway:
        address = gateway.open("dataset/pbmc.h5ad")
        target = address + "api/v0.2/annotations/obs"
        assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "T cell")).status == 200
        until_now(lambda: "this file could not be prepared" in gateway.log.read_text(), seconds=30)
        assert gateway.get(address, **PAGE).status == 200
    assert "T cell" in (tmp_path / "kept" / annotations.LABELS).read_text()


def test_the_dataset_itself_is_never_its_own_copy(tmp_path: Path) -> None:
    file = write_dataset(tmp_path / "pbmc.h5ad")
    before = file.read_bytes()
    (tmp_path / "link.h5ad").symlink_to(file)
    status, said = ended(tmp_path, str(file), "--annotated=link.h5ad")
    assert status == 2
    assert "is never written to" in said
    assert file.read_bytes() == before


@pytest.mark.parametrize("option", ["--check", "--annotated=x.h5ad", "--labels-folder=x"])
def test_what_goes_with_one_dataset_is_refused_without(option: str, tmp_path: Path) -> None:
    status, said = ended(tmp_path, option)
    assert status == 2
    assert f"{option.partition('=')[0]} goes with one dataset" in said
