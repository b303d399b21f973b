"""Replies that are packed once: the same as those that are made each time, whatever became of the folder."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_compress.compat import compression as stdlib_compression
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from cxg_proxy.viewer import options
from cxg_proxy.viewer.cellxgene import compression, reply_cache
from cxg_proxy.viewer.cellxgene.reply_files import ReplyFiles
from viewer_fixtures import cells

# cellxgene's import of anndata, and its use of flatbuffers
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("FutureWarning", "DeprecationWarning")]

BINARY = "application/octet-stream"
UNPACK = {"identity": bytes, "gzip": gzip.decompress, "zstd": stdlib_compression.zstd.decompress}
LAYOUT = "layout/obs?layout-name=umap"
TARGETS = (LAYOUT, "annotations/obs?annotation-name=kind", "annotations/var?annotation-name=name_0", "colors")
Load = Callable[..., Flask]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "cells.h5ad"
    data = cells(2000, 300)
    del data.uns["size_colors"]  # it is no category
    data.obs["donor"] = [f"donor {number % 40}" for number in range(2000)]
    data.obs["donor"] = data.obs["donor"].astype("category")
    data.uns["donor_colors"] = [f"#0000{number:02x}" for number in range(40)]
    data.write_h5ad(path)
    return path


@pytest.fixture
def load(dataset: Path, tmp_path: Path) -> Load:
    """An application on the dataset, with a folder for replies or without."""
    from cxg_proxy.viewer.cellxgene.application import load  # noqa: PLC0415 - it warns while it is imported
    from cxg_proxy.viewer.dataset.load import load_dataset as read_dataset  # noqa: PLC0415 - as below

    def made(folder: Path | None, **chosen: Any) -> Flask:
        application = load(
            str(dataset),
            tmp_path / "labels",
            chosen,
            read_only=False,
            history_limit=10**6,
            diffexp_workers=1,
            diffexp_max_cells=None,
            read=lambda path, layer: read_dataset(path, layer, None, lambda *_: None),
        )
        if folder is not None:
            reply_cache.Replies.of(application).keep_in(folder)
        return application

    return made


@pytest.fixture(name="folder")
def a_folder(tmp_path: Path) -> Path:
    (tmp_path / "replies").mkdir()
    return tmp_path / "replies"


def ask(application: Flask, target: str, encoding: str = "gzip", **headers: str) -> Any:
    accept = {"Accept": f"{BINARY}, application/json", "Accept-Encoding": encoding, **headers}
    return application.test_client().get(f"/api/v0.2/{target}", headers=accept)


def content(reply: Any) -> bytes:
    assert reply.status_code == 200
    return UNPACK[reply.headers.get("Content-Encoding", "identity")](reply.data)


def inodes(folder: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_ino for entry in os.scandir(folder)}


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "gzip, deflate, br, zstd", "gzip, deflate", "br, gzip;q=0.5"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_kept_reply_is_the_one_that_is_made_each_time(load: Load, folder: Path, target: str, encoding: str) -> None:
    each_time = ask(load(None), target, "identity")
    application = load(folder)
    first = ask(application, target, encoding)
    there = inodes(folder)
    second, elsewhere = ask(application, target, encoding), ask(load(folder), target, encoding)
    assert content(first) == content(second) == content(elsewhere) == each_time.data
    assert first.data == second.data == elsewhere.data
    for name in ("Content-Type", "ETag", "Cache-Control", "Vary", "X-Labels-Known"):
        assert first.headers.get(name) == elsewhere.headers.get(name) == each_time.headers.get(name)
    assert first.headers["Content-Encoding"] == second.headers["Content-Encoding"] != "identity"
    assert int(second.headers["Content-Length"]) == len(second.data)
    assert inodes(folder) == there
    assert len(there) == 1


@pytest.mark.parametrize(
    "target",
    [
        "schema",
        "genesets",
        "config",
        "annotations/obs",
        "layout/obs",
        "annotations/obs?annotation-name=kind&annotation-name=size",
        "annotations/obs?annotation-name=nothing",
        "layout/obs?layout-name=nothing",
        "annotations/var?annotation-name=nothing",
        "data/var?var:name_0=gene1",
    ],
)
def test_what_depends_on_labels_may_fail_or_is_seldom_asked_is_not_kept(load: Load, folder: Path, target: str) -> None:
    ask(load(folder), target)
    assert inodes(folder) == {}


def test_a_column_of_labels_is_never_kept_and_one_of_the_file_never_reads_them(load: Load, folder: Path) -> None:
    application = load(folder)
    labels = folder.parent / "labels"
    labels.mkdir(mode=0o700)
    rows = "".join(f"cell#{number},mine\n" for number in range(2000))
    (labels / "cell-labels.csv").write_text("index,type\n" + rows)
    assert b"mine" in content(ask(application, "annotations/obs?annotation-name=type"))
    assert inodes(folder) == {}
    own = ask(application, "annotations/obs?annotation-name=kind")
    assert "X-Labels-Known" not in own.headers
    (labels / "cell-labels.csv").write_text("no table\nof labels,")
    assert ask(application, "annotations/obs?annotation-name=type").status_code == 422
    assert ask(application, "annotations/obs?annotation-name=kind").data == own.data


def test_a_refusal_of_every_encoding_is_honoured(load: Load, folder: Path) -> None:
    application = load(folder)
    for refusing in ("identity", "gzip;q=0", "zstd;q=0, gzip;q=0", "*;q=0", "identity, gzip;q=0.5", ""):
        for target in TARGETS:
            assert "Content-Encoding" not in ask(application, target, refusing).headers
    assert ask(application, LAYOUT, "gzip;q=0, br").headers["Content-Encoding"] == "br"
    assert inodes(folder) == {}


@pytest.mark.parametrize("accept", ["text/html", "application/octet-stream;q=0"])
def test_who_does_not_take_the_type_gets_no_kept_reply_of_it(load: Load, folder: Path, accept: str) -> None:
    application = load(folder)
    ask(application, LAYOUT)
    assert ask(application, LAYOUT, Accept=accept).status_code == 406


@pytest.mark.parametrize(
    "damage",
    [
        lambda file, _: file.write_bytes(b""),
        lambda file, _: file.write_bytes(file.read_bytes()[:-1]),
        lambda file, _: file.write_bytes(file.read_bytes() + b"x"),
        lambda file, _: file.write_bytes(file.read_bytes()[:40] + b"\0" + file.read_bytes()[41:]),
        lambda file, other: file.write_bytes(other.read_bytes()),
        lambda file, _: (file.unlink(), os.mkfifo(file)),
        lambda file, other: (file.unlink(), file.symlink_to(other)),
        lambda file, _: (file.unlink(), file.mkdir()),
        lambda file, _: file.chmod(0),
    ],
    ids="empty cut longer damaged another's pipe link folder unreadable".split(),
)
def test_a_damaged_file_is_made_again(load: Load, folder: Path, damage: Callable[[Path, Path], object]) -> None:
    application = load(folder)
    whole = ask(application, LAYOUT)
    (file,) = folder.iterdir()
    ask(application, "annotations/obs?annotation-name=kind")
    (other,) = set(folder.iterdir()) - {file}
    damage(file, other)
    assert ask(application, LAYOUT).data == whole.data
    if not file.is_dir():
        assert file.is_file()
        edition = reply_cache.Replies.of(application)._edition
        assert ReplyFiles(folder, edition).get(LAYOUT.replace("?layout-name=", " "), "gzip") == whole.data


@pytest.mark.parametrize("place", ["gone/replies", "file", "/proc/replies", "/dev/full"])
def test_a_folder_that_cannot_be_is_as_if_there_were_none(load: Load, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    application = load(tmp_path / place)
    for _ in range(2):
        assert content(ask(application, LAYOUT)) == ask(load(None), LAYOUT, "identity").data
    assert not (tmp_path / "gone").exists()


def test_options_that_change_a_reply_keep_another(load: Load, folder: Path) -> None:
    shown = ask(load(folder), "colors")
    hidden = ask(load(folder, disable_custom_colors=True), "colors")
    assert b"#000001" in content(shown)
    assert hidden.get_json() == {}
    ask(load(folder), LAYOUT)
    there = inodes(folder)
    ask(load(folder, title="Mine", scripts=["a.js"], max_category_items=7), LAYOUT)
    assert inodes(folder) == there


def test_each_option_is_known_to_change_what_is_kept_or_not() -> None:
    others = {"title", "about", "diffexp_cellcount_max", "column_request_max", "scripts", "embeddings", "layer"}
    others |= {"max_category_items", "diffexp_lfc_cutoff", "diffexp_top_n", "disable_diffexp", "disable_annotations"}
    others |= {"disable_gene_sets_save", "X_approximate_distribution"}
    assert set(options._OPTIONS) == {*reply_cache.OPTIONS, *others}


def test_all_that_visitors_fetch_is_made_in_advance(load: Load, folder: Path) -> None:
    shares: list[float] = []
    from cxg_proxy.viewer.cellxgene import cache_warming  # noqa: PLC0415 - it warns while it is imported

    cache_warming.prepare(load(None), folder, report=shares.append, cancelled=lambda: False)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    there = inodes(folder)
    application = load(folder)
    for target in (*TARGETS, "layout/obs?layout-name=tsne", "annotations/obs?annotation-name=size"):
        for encoding in compression.KEPT:
            assert content(ask(application, target, encoding)) == ask(load(None), target, "identity").data
    assert inodes(folder) == there
    assert len(there) == 2 * len(shares)


def test_making_them_in_advance_can_be_broken_off(load: Load, folder: Path) -> None:
    asked = iter([False, False, False, True])
    from cxg_proxy.viewer.cellxgene import cache_warming  # noqa: PLC0415 - it warns while it is imported

    cache_warming.prepare(load(None), folder, report=[].append, cancelled=lambda: next(asked))
    assert len(inodes(folder)) == 3


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0, *;q=0.5", "zstd"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("identity, gzip", "gzip"),
        ("zstd;q=0.1, gzip;q=0.2", "gzip"),
        ("*;q=0", "identity"),
        ("compress, GZIP", "gzip"),
        ("gzip;q=nonsense", "identity"),
    ],
)
def test_the_client_chooses_how_replies_are_packed(header: str, encoding: str) -> None:
    assert compression.chosen(parse_accept_header(header, Accept)) == encoding
