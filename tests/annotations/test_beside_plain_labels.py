"""What cellxgene itself does to labels, beside what becomes of them here; and that it reads our files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server.common.fbs.matrix import decode_matrix_fbs

from cxg_proxy import annotations
from viewer_fixtures import LAUNCH, OFFLINE, Server, cells, worker
from viewer_labels import BINARY, Page, read, save, table
from waiting import until_now

pytest_plugins = ["viewer_plugin"]
# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = [
    pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning"),
    pytest.mark.timeout(120),
]

COLLECTION = "annotations/obs?annotation-collection-name=mine"


class Plain:
    """A browser's session with plain cellxgene, which finds labels by a cookie."""

    def __init__(self, server: Server) -> None:
        self.server = server
        first = server.api(COLLECTION, "PUT", table(type=["first"] * 60), **BINARY)
        self.cookie = first.headers["Set-Cookie"].partition(";")[0]

    def save(self, **columns: list[str]) -> None:
        assert self.server.api(COLLECTION, "PUT", table(**columns), Cookie=self.cookie, **BINARY).status == 200

    def columns(self) -> dict[str, list[str]]:
        """The labels of each category."""
        schema = self.server.api("schema", Cookie=self.cookie).json["schema"]
        columns = schema["annotations"]["obs"]["columns"]
        return {column["name"]: column["categories"] for column in columns if column["writable"]}

    @property
    def file(self) -> Path:
        (file,) = (self.server.place / "labels").glob("mine-cell-labels-*.csv")
        return file


@pytest.fixture
def session(small: Path, start_plain: Any) -> Iterator[Plain]:
    with start_plain(small) as server:
        yield Plain(server)


@pytest.mark.hazard(8)
def test_plain_cellxgene_keeps_nine_older_versions_which_a_minute_of_saving_pushes_out(session: Plain) -> None:
    for number in range(15):
        session.save(type=[str(number)] * 60)
    kept = list((session.file.parent / f"{session.file.stem}-backups").iterdir())
    assert len(kept) <= 9  # they are named by the second, too: of all saves within one, the last is kept
    assert not any("first" in each.read_text() for each in kept)


@pytest.mark.hazard(8)
def test_here_a_minute_of_saving_pushes_out_nothing(small: Path, tmp_path: Path) -> None:
    with worker(small, tmp_path / "labels") as server:
        save(server, type=["first"] * 60)
        for number in range(30):
            assert save(server, type=[str(number)] * 60).status == 200
    versions = annotations.versions(tmp_path / "labels")
    assert len(versions) == 31
    assert b"cell#0,first" in annotations.read_version(tmp_path / "labels", versions[-1].id)


@pytest.mark.hazard(9)
def test_plain_cellxgene_loses_what_another_tab_added_and_never_sees_an_edit_on_the_disk(session: Plain) -> None:
    session.save(type=["T"] * 60, other=["x"] * 60)  # another tab has added a category
    session.save(type=["B"] * 60)  # a tab that does not know of it saves
    assert session.columns() == {"type": ["B"]}
    edited = session.file.read_text().replace(",B", ",edited")
    session.file.write_text(edited)
    assert session.columns() == {"type": ["B"]}
    session.save(type=["B"] * 60)
    assert "edited" not in session.file.read_text()


@pytest.mark.hazard(9)
def test_here_both_stay_and_an_edit_is_seen(small: Path, tmp_path: Path) -> None:
    where = tmp_path / "labels"
    with worker(small, where) as server:
        one = Page(server)
        one.save(type="T")
        Page(server, "other").save(other="x")
        one.save(type="B")
        assert set(Page(server).columns) == {"type", "other"}
        file = where / annotations.LABELS
        file.write_text(file.read_text().replace(",B,", ",edited,"))
        assert set(read(server, "type")) == {"edited"}
        one.save(more="y")  # of what it does not know, it changes nothing
        assert set(read(server, "type")) == {"edited"}


@contextlib.contextmanager
def launched(dataset: Path, *options: str | Path) -> Iterator[str]:
    """`cellxgene launch` with files of labels and gene sets; the address of its interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*LAUNCH, "--port", str(port), *map(str, options), str(dataset)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    url = f"http://127.0.0.1:{port}/api/v0.2/"
    try:
        until_now(lambda: process.poll() is not None or answers(url), seconds=60)
        assert process.poll() is None
        yield url
    finally:
        process.kill()
        process.wait()


def environment() -> dict[str, str]:
    return {**os.environ, **OFFLINE, "PYTHONUTF8": "1"}


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return bool(ask(url + "config"))
    return False


def ask(url: str, accept: str = "application/json") -> bytes:
    return httpx.get(url, headers={"Accept": accept}).raise_for_status().content


# Without '#' and line breaks: there cellxgene's own reader cuts a name, though its own writer wrote it.
NAMES = ["plain", "a,b", 'with "quotes"', "'single'", "ümlaut", "\N{GRINNING FACE}", "=1+1", "x" * 200, " spaces "]


def test_cellxgene_itself_shows_our_labels_and_gene_sets(tmp_path: Path) -> None:
    dataset, where = tmp_path / "named.h5ad", tmp_path / "labels"
    names = [f"{name}{number}" for number in range(20) for name in NAMES]  # many: cellxgene cuts small replies
    data = cells(len(names))
    data.obs_names = names
    data.write_h5ad(dataset)
    with worker(dataset, where) as server:
        assert save(server, mine=names[::-1], second=["x"] * len(names)).status == 200
        genes = [{"gene_symbol": "gene3", "gene_description": "why, not"}]
        sets = [{"geneset_name": 'a "set", of mine', "geneset_description": "d", "genes": genes}]
        assert server.api("genesets", "PUT", {"genesets": sets, "tid": 1}).status == 200
    labels, gene_sets = tmp_path / "copy of labels.csv", tmp_path / "copy of sets.csv"
    shutil.copy(where / annotations.LABELS, labels)
    shutil.copy(where / annotations.GENE_SETS, gene_sets)
    with launched(dataset, "--annotations-file", labels, "--gene-sets-file", gene_sets) as url:
        schema = json.loads(ask(url + "schema"))["schema"]
        shown = {column["name"] for column in schema["annotations"]["obs"]["columns"] if column["writable"]}
        assert shown == {"mine", "second"}
        given = decode_matrix_fbs(ask(url + "annotations/obs?annotation-name=mine", "application/octet-stream"))
        assert list(given["mine"]) == names[::-1]
        (found,) = json.loads(ask(url + "genesets"))["genesets"]
        assert (found["geneset_name"], found["genes"]) == ('a "set", of mine', genes)
