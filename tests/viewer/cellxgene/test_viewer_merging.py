"""Two pages on one home, as cellxgene's page and our script in it speak to a real worker: neither loses anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy import annotations
from cxg_proxy.annotations.merge import SeenState
from viewer_fixtures import Reply, Server, cells, worker
from viewer_labels import BINARY, CELLS, Page, table

# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "two pages.h5ad"
    cells(CELLS).write_h5ad(file)
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "labels"


@pytest.fixture(scope="module")
def servers(dataset: Path, home: Path) -> Iterator[list[Server]]:
    """Two workers of one user for one dataset, as of two servers."""
    with worker(dataset, home) as one, worker(dataset, home) as other:
        yield [one, other]


@pytest.fixture
def server(servers: list[Server], home: Path) -> Server:
    for name in (annotations.LABELS, annotations.GENE_SETS):
        (home / name).unlink(missing_ok=True)
    return servers[0]


def merged(reply: Reply) -> Any:
    return json.loads(reply.headers["X-Labels-Merged"])


def test_two_tabs_of_one_server_keep_what_the_other_has_added(server: Server) -> None:
    one, other = Page(server), Page(server, "other")
    assert "X-Labels-Merged" not in one.save(type="T").headers
    assert merged(other.save(state="old")) == {"kept": ["type"], "removed": [], "replaced": []}
    one.save(type="B")
    one.save(extra="x")
    one.save(extra=None)
    reloaded = Page(server)
    assert {name: column[0] for name, column in reloaded.columns.items()} == {"type": "B", "state": "old"}


def test_two_servers_on_one_home_keep_what_the_other_has_added(servers: list[Server], server: Server) -> None:
    one, other = map(Page, servers)
    one.save(type="T")
    other.save(state="old")
    one.save(type="B")
    other.save(state=None)
    for each in servers:
        assert {name: column[0] for name, column in Page(each).columns.items()} == {"type": "B"}


def test_a_page_that_outlives_its_worker_removes_nothing_that_was_added_meanwhile(
    dataset: Path, home: Path, server: Server
) -> None:
    page = Page(server)
    page.save(type="T", state="old")
    Page(server, "other").save(added="x")
    with worker(dataset, home) as fresh:
        page.server = fresh
        page.save(state=None)
        assert set(Page(fresh).columns) == {"type", "added"}


def test_the_same_category_in_two_tabs_is_the_newest_ones_and_the_other_is_told_and_restorable(
    server: Server, home: Path
) -> None:
    Page(server).save(type="T")
    one, other = Page(server), Page(server, "other")
    one.save(type="an hour's work")
    assert merged(other.save(type="a slip"))["replaced"] == ["type"]
    lost = [each for each in annotations.versions(home) if each.lost]
    assert b"an hour's work" in annotations.read_version(home, lost[0].id)


def test_an_edit_of_the_file_by_hand_is_merged_with_the_next_save(server: Server, home: Path) -> None:
    page = Page(server)
    page.save(type="T")
    file = home / annotations.LABELS
    lines = [line + ",by hand" for line in file.read_text().splitlines() if not line.startswith("#")]
    file.write_text("\n".join(lines).replace(",by hand", ",note", 1) + "\n")
    page.save(type="B")
    assert {name: column[0] for name, column in Page(server).columns.items()} == {"type": "B", "note": "by hand"}


def test_a_page_that_says_nothing_of_what_it_knows_adds_and_removes_nothing_of_others(server: Server) -> None:
    Page(server).save(type="T")
    assert server.api("annotations/obs", "PUT", table(state=["x"] * CELLS), **BINARY).status == 200
    assert set(Page(server).columns) == {"type", "state"}


@pytest.mark.parametrize("said", ["x", ":" * 9, "0123456789abcdef:" + "A" * 6401, "\u00e9:", "-" * 60_000])
def test_what_a_page_says_it_knows_may_be_anything(said: str, server: Server) -> None:
    Page(server).save(type="T")
    body = table(state=["x"] * CELLS)
    reply = server.api("annotations/obs", "PUT", body, **BINARY, X_Labels_Known=said.encode("latin-1"))
    assert reply.status == 200
    assert set(Page(server).columns) == {"type", "state"}


def test_a_reply_not_sent_again_tells_the_page_what_it_knows_all_the_same(server: Server) -> None:
    Page(server).save(type="T", state="old")
    for target, names in (("schema", 2), ("annotations/obs?annotation-name=type", 1)):
        first = server.api(target, **BINARY)
        again = server.api(target, **BINARY, If_None_Match=first.headers["ETag"])
        assert again.status == 304
        known = SeenState.from_text(again.headers["X-Labels-Known"])
        assert known == SeenState.from_text(first.headers["X-Labels-Known"])
        assert len(known.parts) == names


def test_gene_sets_of_two_tabs_are_merged_and_their_numbers_do_not_meet(servers: list[Server], server: Server) -> None:
    one, other = Page(server), Page(servers[1], "other")
    one.save_sets(mine=["gene1"])
    assert merged(other.save_sets(theirs=["gene2"]))["kept"] == ["mine"]
    third = Page(server, "third")
    one.save_sets(mine=["gene1", "gene3"], second=[])
    third.save_sets(theirs=None)
    assert Page(server).sets == {"mine": ["gene1", "gene3"], "second": []}


def test_a_gene_set_named_like_a_comment_is_still_there_after_a_reload(server: Server) -> None:
    Page(server).save_sets(**{"# not a comment": ["gene1"], 'with, "quotes"': ["gene2"]})
    assert Page(server).sets == {"# not a comment": ["gene1"], 'with, "quotes"': ["gene2"]}


def test_the_first_save_says_which_dataset_the_labels_are_for(server: Server, home: Path, dataset: Path) -> None:
    Page(server).save(type="T")
    names = [f"cell#{number}" for number in range(CELLS)]
    record = annotations.DatasetRecord(dataset.name, str(dataset), CELLS, annotations.identifiers_digest(names))
    assert annotations.read_record(home) == record


def test_labels_of_changed_cells_are_matched_by_name_kept_whole_and_the_numbers_told(
    dataset: Path, server: Server, tmp_path: Path
) -> None:
    home = tmp_path / "labels"
    old = "index,type\n" + "".join(f"cell#{number},{number % 2}\n" for number in range(50, 100))
    home.mkdir()
    (home / annotations.LABELS).write_text(old)
    with worker(dataset, home) as changed:
        fit = json.loads(changed.api("schema").headers["X-Labels-Fit"])
        assert fit == {"cells": CELLS, "without": 50, "gone": 40}
        page = Page(changed)
        assert page.columns["type"] == ["unassigned"] * 50 + ["0", "1"] * 5
        page.save(state="x")
        assert "X-Labels-Fit" not in changed.api("schema").headers
    (kept,) = home.glob("cell-labels-of-other-cells-*.csv")
    assert kept.read_text() == old


def test_categories_that_are_all_deleted_after_the_cells_have_changed_stay_deleted(
    dataset: Path, tmp_path: Path
) -> None:
    home = tmp_path / "labels"
    home.mkdir()
    old = "index,type,state\n" + "".join(f"cell#{number},T,x\n" for number in range(50, 100))
    (home / annotations.LABELS).write_text(old)
    with worker(dataset, home) as changed:
        page, other = Page(changed), Page(changed, "other")
        assert "X-Labels-Merged" not in page.save(type=None, state=None).headers
        assert Page(changed).columns == {}
        assert merged(other.save(type="B"))["removed"] == ["state"]
    (kept,) = home.glob("cell-labels-of-other-cells-*.csv")
    assert kept.read_text() == old
    assert [each.changed for each in annotations.versions(home)][-1:] == [{"type": 50, "state": 50}]
