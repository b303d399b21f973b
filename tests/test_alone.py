"""One dataset shown alone: its viewer is the first page, and there is no list."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import until_now
from cxg_proxy import annotations, roots
from gateways import PAGE, SAME_SITE, Gateway, running_gateway
from test_faults import labels_body, write_dataset

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
        (card,) = gateway.get("/api/datasets").json["datasets"]
        assert (card["label"], card["share"]) == ("pbmc", "")


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
        assert card["label"] == roots.file_name(title).removesuffix(".h5ad") or "\ufffd" in card["label"]


@given(st.text())
def test_a_title_makes_the_name_of_one_file(title: str) -> None:
    name = roots.file_name(title)
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
    options = (str(file), "--title=My cells", f"--labels-folder={labels}")
    with alone(tmp_path, *options, python=sys.executable) as gateway:
        address = viewer_of(gateway)
        gateway.open("dataset/My~20cells.h5ad")
        target = address + "api/v0.2/annotations/obs"
        assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "T cell")).status == 200
        until_now(lambda: "T cell" in gateway.get("/annotations/dataset/My~20cells.h5ad", **PAGE).text)
    assert "T cell" in (labels / annotations.LABELS).read_text()
    about = annotations.described(labels)
    assert about
    assert (about.name, about.path) == ("My cells.h5ad", str(file))
    after = file.stat()
    assert (before[0].st_ino, before[0].st_mtime_ns, before[1]) == (after.st_ino, after.st_mtime_ns, file.read_bytes())
