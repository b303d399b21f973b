"""From the first visit of a dataset, which has no store yet, to the next ones, which share it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import pytest

from cxg_proxy.steps import Phase, Step
from cxg_proxy.viewer.serve import _Ready
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from cxg_proxy.viewer.store.store import Store, checksum, signed
from stores_fixtures import MEMORY, PLENTY, environment, ignore, never
from viewer_fixtures import Reply, Server, cells, worker

pytestmark = pytest.mark.timeout(120)
BINARY = "application/octet-stream"
LAYOUT = "layout/obs?layout-name=umap"


@pytest.fixture(name="source")
def a_dataset(tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    cells(3000, 50).write_h5ad(path)
    return path


def gene(server: Server, number: int = 1) -> Reply:
    """A reply that needs the matrix, and waits for it."""
    reply = server.api(f"data/var?var:name_0=gene{number}", Accept=BINARY)
    assert reply.status == 200, reply.body
    return reply


def until_prepared(server: Server) -> None:
    while server.steps[-1].get("done") is not None:
        assert server.next_step() is not None


def stores(cache: Path) -> list[Path]:
    return [manifest.parent for manifest in cache.rglob("store.json")]


def maps(server: Server, store: Path) -> bool:
    """Whether the matrix of this store is in the worker's memory as the file that it is."""
    return f"{store}/" in Path(f"/proc/{server.process.pid}/maps").read_text()


def kept(store: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in (store / "replies").iterdir()}


def test_the_first_visit_does_not_wait_for_the_store_and_the_next_ones_share_it(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with worker(source, extra=["--cache", str(cache)]) as first:
        assert first.steps[-1]["done"] == 0, "ready comes before the matrix"
        assert first.api(LAYOUT, Accept=BINARY).status == 200
        values = gene(first).body
        until_prepared(first)
        (store,) = stores(cache)
        assert maps(first, store)
        with worker(source, extra=["--cache", str(cache)]) as second:
            assert "done" not in second.steps[-1]
            assert gene(second).body == values
            assert maps(second, store)
            assert gene(second, 2).body != values


def test_what_is_prepared_is_told_only_after_the_viewer_is_ready() -> None:
    said: list[Step] = []
    ready = _Ready(said.append)
    ready.preparing(0.1, "")
    assert said == []
    ready.say("as it is")
    ready.preparing(0.5, "")
    ready.preparing(None, "In memory.")
    assert said == [
        Step(Phase.READY, done=0.1, state="as it is"),
        Step(Phase.READY, done=0.5),
        Step(Phase.READY, note="In memory."),
    ]


def test_a_file_that_was_replaced_has_another_store(source: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with worker(source, extra=["--cache", str(cache)]) as server:
        before = gene(server).body
    other = cells(3000, 50)
    other.X = other.X + 1
    other.write_h5ad(source)
    with worker(source, extra=["--cache", str(cache)]) as server:
        assert gene(server).body != before


def test_where_no_cache_can_be_made_it_is_read_into_memory_and_that_is_said(source: Path, tmp_path: Path) -> None:
    with worker(source, extra=["--cache", str(source / "cache")]) as server:
        assert gene(server).status == 200
        while "read into memory" not in server.steps[-1].get("note", ""):
            assert server.next_step() is not None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_cache_that_cannot_even_be_looked_at_does_not_keep_a_viewer_closed(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from cxg_proxy.viewer import serve\n"
        "os.setgroups([]); os.setuid(65534)\n"
        "order = serve.ServeOrder('x.h5ad', 's', Path('l'), {}, cache=Path(sys.argv[1]))\n"
        "print(serve._stores(order).limit)\n"
    )
    (tmp_path / "private").mkdir(mode=0o700)
    command = [sys.executable, "-c", program, tmp_path / "private" / "x" / "cache"]
    assert int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment()).stdout) > 0


def test_a_store_that_fails_while_it_is_opened_is_no_reason_not_to_open(source: Path, tmp_path: Path) -> None:
    extra = ["--cache", str(tmp_path / "cache")]
    with worker(source, extra=extra) as server:
        values = gene(server).body
        until_prepared(server)
    (store,) = stores(tmp_path / "cache")
    rest = h5py.File(store / "rest.h5ad", "r+")
    del rest["var"]
    rest.close()
    manifest = json.loads((store / "store.json").read_bytes().splitlines()[0])
    manifest["sizes"]["rest.h5ad"] = (store / "rest.h5ad").stat().st_size
    manifest["checksums"]["rest.h5ad"] = checksum(store / "rest.h5ad")
    (store / "store.json").write_bytes(signed(json.dumps(manifest, sort_keys=True).encode()))
    with worker(source, extra=extra) as server:
        assert gene(server).body == values


def test_what_every_visitor_fetches_is_packed_once(source: Path, tmp_path: Path) -> None:
    extra = ["--cache", str(tmp_path / "cache")]
    with worker(source, extra=extra) as first:
        gene(first)
        until_prepared(first)
        (store,) = stores(tmp_path / "cache")
        packed = first.api(LAYOUT, Accept=BINARY, Accept_Encoding="gzip").body
    there = kept(store)
    assert there
    with worker(source, extra=extra) as second:
        assert second.api(LAYOUT, Accept=BINARY, Accept_Encoding="gzip").body == packed
    assert kept(store) == there


def test_what_is_prepared_for_everybody_holds_what_every_visitor_fetches(source: Path, tmp_path: Path) -> None:
    shared, extra = (
        tmp_path / "shared",
        ["--cache", str(tmp_path / "cache"), "--shared-cache", str(tmp_path / "shared")],
    )
    command = [sys.executable, "-m", "cxg_proxy", "prepare", f"--shared-cache={shared}", source]
    subprocess.run(command, cwd="/", check=True, capture_output=True, env=environment())
    (store,) = stores(shared)
    there = kept(store)
    assert there
    assert not any(file.stat().st_mode & 0o022 for file in (store, *store.rglob("*")))
    with worker(source, extra=extra) as server:
        begin = time.time_ns()
        assert server.api(LAYOUT, Accept=BINARY, Accept_Encoding="gzip").headers["Content-Encoding"] == "gzip"
        gene(server)
        assert maps(server, store)
    assert kept(store) == there
    assert all(when < begin for when in there.values())
    assert not stores(tmp_path / "cache")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # cellxgene's imports
def test_a_store_without_the_first_replies_is_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from cxg_proxy.viewer.cellxgene import cache_warming  # noqa: PLC0415 - it warns

    def finish(made: Store) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        cache_warming.make(made, Origin.of(str(source)), never)

    kept = Stores(tmp_path / "shared", None, limit=PLENTY, memory=MEMORY, finish=finish)
    there = kept.make(Origin.of(str(source)), ignore, never)
    assert "Its first visitor will wait a little longer" in caplog.text
    assert not list(there.replies.iterdir())
    kept.close()
