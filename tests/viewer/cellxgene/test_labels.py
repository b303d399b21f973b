"""Labels and gene sets: one place for each user and dataset, saved whole or not at all."""

import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface

from viewer_fixtures import LAUNCH, OFFLINE, Server, failure, worker
from viewer_labels import BINARY, read, save, table

pytest_plugins = ["viewer_plugin"]
# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")

FORGED = "session=eyJfcGVybWFuZW50Ijp0cnVlLCJjeGdfYW5ub19jb2xsZWN0aW9uIjoiLi4vZXNjYXBlZCJ9.aaaaaa.bbbb"


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, 16 * 1024))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "deep" / "cellxgene" / "small-0123"


@pytest.fixture(scope="module")
def writer(small: Path, labels: Path) -> Iterator[Server]:
    """A worker to save with; no file of it can grow beyond 16 KiB, as on a disk that is nearly full."""
    with worker(small, labels, preexec_fn=small_files) as server:
        yield server


@pytest.mark.hazard(6)
def test_labels_are_found_again_by_a_new_worker_without_any_cookie(small: Path, tmp_path: Path) -> None:
    where = tmp_path / "home" / "labels"
    kinds = ["one # two", 'with "quotes", commas', "ü"] * 20
    with worker(small, where) as first:
        assert save(first, mine=kinds, other=["x"] * 60).status == 200
        sets = [{"geneset_name": "known", "geneset_description": "ü", "genes": [{"gene_symbol": "gene3"}]}]
        assert first.api("genesets", "PUT", {"genesets": sets, "tid": 1}).status == 200
        assert read(first, "mine") == kinds
    with worker(small, where) as second:
        assert read(second, "mine") == kinds
        columns = second.api("schema").json["schema"]["annotations"]["obs"]["columns"]
        assert [column["name"] for column in columns if column["writable"]] == ["mine", "other"]
        found = second.api("genesets", Accept="application/json").json["genesets"]
        assert [(one["geneset_name"], one["genes"][0]["gene_symbol"]) for one in found] == [("known", "gene3")]


def test_a_read_only_viewer_shows_what_was_saved_and_lets_nobody_change_it(small: Path, tmp_path: Path) -> None:
    sets = [{"geneset_name": "known", "geneset_description": "", "genes": [{"gene_symbol": "gene3"}]}]
    with worker(small, tmp_path) as first:
        assert save(first, mine=["one", "two", "three"] * 20).status == 200
        assert first.api("genesets", "PUT", {"genesets": sets, "tid": 1}).status == 200
        tag = first.api("schema").headers["ETag"]
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with worker(small, tmp_path, extra=["--read-only"]) as second:
        schema = second.api("schema", If_None_Match=tag)
        assert schema.status == 200
        columns = {column["name"]: column for column in schema.json["schema"]["annotations"]["obs"]["columns"]}
        assert columns["mine"] == {**columns["kind"], "name": "mine", "categories": ["one", "three", "two"]}
        assert read(second, "mine") == ["one", "two", "three"] * 20
        parameters = second.api("config").json["config"]["parameters"]
        assert parameters["annotations"] is False
        assert parameters["annotations_genesets_readonly"] is True
        assert second.api("genesets", Accept="application/json").json["genesets"][0]["geneset_name"] == "known"
        refused = save(second, mine=["x"] * 60)
        assert refused.status == 501
        assert refused.json["message"] == "Labels cannot be changed in this viewer."
        assert second.api("genesets", "PUT", {"genesets": [], "tid": 1}).status == 501
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_disabled_annotations_are_not_even_shown(small: Path, tmp_path: Path) -> None:
    (tmp_path / "cell-labels.csv").write_text("index,mine\ncell#7,a\n")
    with worker(small, tmp_path, options={"disable_annotations": True}) as server:
        columns = server.api("schema").json["schema"]["annotations"]["obs"]["columns"]
        assert "mine" not in {column["name"] for column in columns}
        assert save(server, mine=["x"] * 60).status == 501


@pytest.mark.hazard(19)
@pytest.mark.hazard(21)
def test_files_are_the_users_alone_and_name_the_dataset_only(writer: Server, labels: Path, small: Path) -> None:
    assert save(writer, mine=["a"] * 60).status == 200
    file = labels / "cell-labels.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for level in (labels, labels.parent, labels.parent.parent):
        assert stat.S_IMODE(level.stat().st_mode) == 0o700
    header = file.read_text().partition("\nindex")[0]
    assert "# Dataset: small cells.h5ad" in header
    assert str(small.parent) not in header
    assert [path.name for path in labels.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("cookie", ["", FORGED])
@pytest.mark.hazard(4)
@pytest.mark.hazard(5)
def test_neither_cookie_nor_collection_decides_where_labels_go(writer: Server, labels: Path, cookie: str) -> None:
    before = {path for path in labels.parent.parent.rglob("*") if labels not in path.parents}
    reply = writer.api(
        "annotations/obs?annotation-collection-name=../../escaped",
        "PUT",
        table(mine=["b"] * 60),
        Cookie=cookie,
        **BINARY,
    )
    assert reply.status == 200
    assert "Set-Cookie" not in reply.headers
    assert {path for path in labels.parent.parent.rglob("*") if labels not in path.parents} == before
    assert {path.name for path in labels.iterdir()} <= {"cell-labels.csv", "gene-sets.csv", "dataset.json", "history"}
    assert read(writer, "mine") == ["b"] * 60


@pytest.mark.hazard(4)
def test_plain_cellxgene_writes_where_a_forged_cookie_says(plain: Server) -> None:
    app = Flask("forger")
    app.secret_key = "SparkleAndShine"  # it is in cellxgene's source
    signer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert signer
    cookie = "session=" + signer.dumps({"cxguid": "x", "cxg_anno_collection": "../escaped"})
    reply = plain.api("annotations/obs", "PUT", table(mine=["b"] * 60), Cookie=cookie, **BINARY)
    assert reply.status == 200
    assert list(plain.place.glob("escaped-cell-labels-*.csv"))


@pytest.mark.hazard(6)
@pytest.mark.hazard(21)
def test_plain_cellxgene_loses_labels_without_their_cookie_and_tells_where_the_data_is(
    plain: Server, small: Path
) -> None:
    query = "annotations/obs?annotation-collection-name=kept"
    saved = plain.api(query, "PUT", table(mine=["b"] * 60), **BINARY)
    cookie = saved.headers["Set-Cookie"].partition(";")[0]

    def columns(**headers: str) -> set[str]:
        schema = plain.api("schema", **headers).json["schema"]
        return {column["name"] for column in schema["annotations"]["obs"]["columns"]}

    assert "mine" in columns(Cookie=cookie)
    assert "mine" not in columns()  # as from another browser
    (file,) = (plain.place / "labels").glob("kept-cell-labels-*.csv")
    assert str(small) in file.read_text().partition("\n,mine")[0]


@pytest.mark.hazard(19)
def test_plain_cellxgene_makes_only_the_last_level_of_the_directory_for_labels(small: Path, tmp_path: Path) -> None:
    where = tmp_path / "deep" / "labels"
    command = [*LAUNCH, "--user-generated-data-dir", where, small]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **OFFLINE})
    assert done.returncode == 1
    assert "Unable to create directory" in done.stderr


@pytest.mark.hazard(28)
def test_plain_cellxgene_leaves_its_page_to_ask_for_the_name_of_a_collection(plain: Server) -> None:
    parameters = plain.api("config").json["config"]["parameters"]
    assert parameters["annotations"] is True
    assert parameters["annotations-data-collection-is-read-only"] is False
    assert not parameters.get("annotations-data-collection-name")


@pytest.mark.hazard(28)
def test_the_page_is_told_of_one_collection_that_has_a_name(writer: Server) -> None:
    parameters = writer.api("config").json["config"]["parameters"]
    # What cellxgene's page needs to hear so that it never asks for the name of a collection.
    assert parameters["annotations-data-collection-is-read-only"] is True
    assert parameters["annotations_genesets_name_is_read_only"] is True
    assert parameters["annotations-data-collection-name"]
    assert parameters["user_annotation_collection_name_enabled"] is False
    assert parameters["annotations"] is True


def test_an_edit_on_disk_is_seen_at_the_next_read(writer: Server, labels: Path) -> None:
    assert save(writer, mine=["a"] * 60).status == 200
    tag = writer.api("annotations/obs?annotation-name=mine", **BINARY).headers["ETag"]
    file = labels / "cell-labels.csv"
    file.write_text("index,mine\ncell#7,edited\ncell#5,too\nunknown cell,x\n")
    seen = read(writer, "mine")
    assert (seen[7], seen[5], seen[6]) == ("edited", "too", "unassigned")
    again = writer.api("annotations/obs?annotation-name=mine", **BINARY, If_None_Match=tag)
    assert again.status == 200


@pytest.mark.parametrize("obstacle", ["full", "vanished"])
@pytest.mark.hazard(7)
def test_a_save_that_fails_says_so_and_leaves_the_old_file(writer: Server, labels: Path, obstacle: str) -> None:
    assert save(writer, mine=["old"] * 60).status == 200
    before = (labels / "cell-labels.csv").read_bytes()
    aside = labels.with_name("aside")
    if obstacle == "vanished":
        labels.rename(aside)
        labels.write_text("not a directory")
    try:
        reply = save(writer, mine=[os.urandom(300).hex() for _ in range(60)])
    finally:
        if obstacle == "vanished":
            labels.unlink()
            aside.rename(labels)
    assert reply.status == 507
    assert reply.json["kind"] == "LabelsNotSaved"
    assert "the version saved before is untouched" in reply.json["message"]
    assert "could not be saved" in writer.log.read_text()
    assert (labels / "cell-labels.csv").read_bytes() == before
    assert [path.name for path in labels.iterdir() if path.name.startswith(".")] == []
    assert read(writer, "mine") == ["old"] * 60
    assert save(writer, mine=["new"] * 60).status == 200


@pytest.mark.hazard(7)
def test_plain_cellxgene_tears_the_file_when_the_disk_is_full(small: Path, tmp_path: Path, start_plain: Any) -> None:
    with start_plain(small, SMALL_FILES="16384") as server:
        query = "annotations/obs?annotation-collection-name=mine"
        first = server.api(query, "PUT", table(mine=["old"] * 60), **BINARY)
        assert first.status == 200
        cookie = first.headers["Set-Cookie"].partition(";")[0]
        (file,) = (server.place / "labels").glob("mine-cell-labels-*.csv")
        before = file.read_bytes()
        labels = table(mine=[os.urandom(300).hex() for _ in range(60)])
        assert server.api(query, "PUT", labels, Cookie=cookie, **BINARY).status == 500
        assert not file.exists() or file.read_bytes() != before


def test_gene_sets_that_could_not_be_saved_may_be_saved_again(writer: Server, labels: Path) -> None:
    tid = writer.api("genesets", Accept="application/json").json["tid"]
    sets = [{"geneset_name": f"set {number}", "geneset_description": "x" * 999, "genes": []} for number in range(30)]
    assert writer.api("genesets", "PUT", {"genesets": sets, "tid": tid + 1}).status == 507
    assert writer.api("genesets", "PUT", {"genesets": sets[:1], "tid": tid + 1}).status == 200
    stale = writer.api("genesets", "PUT", {"genesets": [], "tid": tid + 1})
    assert stale.status == 404
    assert "older than the saved ones" in stale.json["message"]
    assert writer.api("genesets", Accept="application/json").json["genesets"][0]["geneset_name"] == "set 0"


def test_labels_of_another_length_are_refused(writer: Server) -> None:
    reply = save(writer, mine=["a"] * 59)
    assert reply.status == 400
    assert reply.json["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("index,kind\ncell#1,x\n", "has a category named 'kind' now"),
        ("index,mine\ncell#1,x\ncell#1,y\n", "is there twice"),
        ("\udcff", "cell-labels.csv"),
    ],
)
def test_labels_edited_into_nonsense_are_explained_and_stay(
    writer: Server, labels: Path, content: str, words: str
) -> None:
    assert save(writer, mine=["a"] * 60).status == 200
    file = labels / "cell-labels.csv"
    file.write_bytes(os.fsencode(content))
    reply = writer.api("schema")
    assert reply.status == 422
    assert reply.json["kind"] == "LabelsNotReadable"
    assert words in reply.json["message"]
    assert file.read_bytes() == os.fsencode(content)
    assert save(writer, mine=["b"] * 60).status == 200


def test_labels_that_do_not_fit_keep_the_viewer_from_starting(small: Path, tmp_path: Path) -> None:
    (tmp_path / "gene-sets.csv").write_text("a,b\n")
    problem = failure(small, labels=tmp_path)
    assert problem["kind"] == "LabelsNotReadable"
    assert "The first line must name the columns" in problem["sentence"]
    assert (tmp_path / "gene-sets.csv").read_text() == "a,b\n"
