"""What a browser has already is told by the gateway, with and without a worker; all else is asked as ever."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cxg_proxy.etags import tag
from datasets import write_dataset
from gateways import SAME_SITE, Gateway, Reply, UnixConnection, running_gateway
from viewer_fixtures import ask
from waiting import until_now

VIEWER = "/view/data/pbmc.h5ad/"
LAYOUT = "/api/v0.2/layout/obs?layout-name=umap"
BINARY = "application/octet-stream"
FAKE_STATE = "as it is"  # what the fake worker says
HELD = f'W/"{tag(FAKE_STATE, LAYOUT, BINARY)}"'
HAS_IT = {"Accept": BINARY, "If-None-Match": HELD, **SAME_SITE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pbmc.h5ad").write_bytes(b"")
    return tmp_path


@pytest.fixture
def gateway(folder: Path) -> Iterator[Gateway]:
    with running_gateway(folder) as running:
        running.open("data/pbmc.h5ad")
        yield running


def again(gateway: Gateway, *, method: str = "GET", target: str = LAYOUT, **headers: str) -> Reply:
    """Ask for what the browser has; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.ask(method, f"{VIEWER}{target[1:]}", {**HAS_IT, **named})


def asked(gateway: Gateway) -> list[str]:
    """What the worker was asked, as far as its last log lines tell."""
    return [line.split('"')[1] for line in gateway.instances()[0]["log"] if '"' in line]


def stop(gateway: Gateway) -> None:
    """Close the viewer, as an idle one is."""
    (instance,) = gateway.instances()
    gateway.post(f"/api/instances/{instance['id']}/stop", {"_xsrf": gateway.xsrf()}, **SAME_SITE)
    until_now(lambda: gateway.instances() == [])


def let_go(gateway: Gateway) -> None:
    """Have the slow worker be ready."""
    socket = next(word for each in gateway.workers() for word in each.cmdline() if word.endswith(".sock"))
    Path(f"{socket}.go").touch()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_gateway_says_itself_what_a_browser_has(gateway: Gateway, method: str) -> None:
    reply = again(gateway, method=method)
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["ETag"] == HELD
    assert reply.headers["Cache-Control"] == "private, no-cache"
    assert reply.headers["Vary"] == "Accept-Encoding"
    assert not any("layout" in line for line in asked(gateway))


def test_a_connection_serves_the_next_request_after_it(gateway: Gateway) -> None:
    with closing(UnixConnection(gateway.path)) as connection:
        for headers, status in ((HAS_IT, 304), (HAS_IT, 304), ({}, 200)):
            connection.request("GET", f"{VIEWER}{LAYOUT[1:]}", headers=headers)
            assert Reply(connection.getresponse()).status == status


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/api/v0.2/layout/obs?layout-name=tsne", {}),
        ("GET", "/api/v0.2/layout/obs", {}),
        ("GET", LAYOUT, {"Accept": "*/*"}),
        ("GET", LAYOUT, {"If-None-Match": "*"}),
        ("GET", LAYOUT, {"If-None-Match": f"{HELD} garbage"}),
        ("GET", LAYOUT, {"If-None-Match": '"' + "x" * 20_000 + '"'}),
        ("GET", "/api/v0.2/layout%2Fobs?layout-name=umap", {}),
        ("GET", "/static/main.js", {"If-None-Match": f'"{tag(FAKE_STATE, "/static/main.js", BINARY)}"'}),
        ("GET", "/", {"If-None-Match": f'"{tag(FAKE_STATE, "/", BINARY)}"'}),
        ("PUT", LAYOUT, {}),
        ("POST", LAYOUT, {}),
    ],
)
def test_the_worker_is_asked_for_all_else(gateway: Gateway, method: str, target: str, headers: dict[str, str]) -> None:
    reply = again(gateway, method=method, target=target, **headers)
    assert reply.status == 200
    assert reply.json["target"] == target
    assert any(target[:60] in line for line in asked(gateway))


def test_a_page_that_is_loaded_again_uses_its_viewer(gateway: Gateway) -> None:
    before = gateway.instances()[0]["used"]
    again(gateway)
    assert gateway.instances()[0]["used"] > before


def test_no_worker_is_woken_for_what_a_browser_has(gateway: Gateway) -> None:
    stop(gateway)
    assert again(gateway).status == 304
    assert gateway.instances() == []
    assert again(gateway, target="/api/v0.2/schema").json["target"] == "/api/v0.2/schema"
    assert len(gateway.instances()) == 1


def test_a_new_gateway_still_knows_what_a_browser_has(folder: Path, short: Path) -> None:
    with running_gateway(folder, temporary=short) as first:
        first.open("data/pbmc.h5ad")
    with running_gateway(folder, temporary=short) as second:
        assert again(second).status == 304
        assert second.instances() == []


@pytest.mark.parametrize("change", ["file", "options beside it", "configuration", "read-only"])
def test_whatever_has_changed_while_no_worker_ran_the_worker_decides(folder: Path, short: Path, change: str) -> None:
    options: tuple[str, ...] = ()
    dataset = folder / "data" / "pbmc.h5ad"
    with running_gateway(folder, temporary=short) as first:
        first.open("data/pbmc.h5ad")
    if change == "file":
        dataset.write_bytes(b"more")
    elif change == "options beside it":
        dataset.with_name("pbmc.h5ad.cxg.yaml").write_text("title: Mine\n")
    elif change == "configuration":
        options = ("--Gateway.viewer_options={'title': 'Mine'}",)
    else:
        options = ("--read-only",)
    with running_gateway(folder, *options, temporary=short) as second:
        assert again(second).status == 200
        assert len(second.instances()) == 1


def test_options_that_change_while_the_worker_starts_count_as_changed(folder: Path) -> None:
    (folder / "data" / "pbmc.h5ad").rename(folder / "data" / "slow.h5ad")
    with running_gateway(folder) as gateway:
        gateway.get("/view/data/slow.h5ad/", Accept="text/html")
        until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")
        (folder / "data" / "slow.h5ad.cxg.yaml").write_text("title: Mine\n")
        let_go(gateway)
        until_now(lambda: gateway.phase("data/slow.h5ad") == "ready")
        stop(gateway)
        with ThreadPoolExecutor() as pool:
            reply = pool.submit(gateway.ask, "GET", f"/view/data/slow.h5ad{LAYOUT}", HAS_IT)
            until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")  # a worker is asked
            let_go(gateway)
            assert reply.result().status == 200


def test_a_dataset_that_is_gone_is_not_found(gateway: Gateway, folder: Path) -> None:
    stop(gateway)
    (folder / "data" / "pbmc.h5ad").unlink()
    assert again(gateway).status == 404


def test_a_dataset_out_of_its_library_is_not_found(folder: Path) -> None:
    (folder / "elsewhere.h5ad").write_bytes(b"")
    (folder / "data" / "pbmc.h5ad").unlink()
    (folder / "data" / "pbmc.h5ad").symlink_to(folder / "elsewhere.h5ad")
    with running_gateway(folder) as first:
        first.open("data/pbmc.h5ad")
    with running_gateway(folder, "--Gateway.follow_symlinks=False") as second:
        assert again(second).status == 404


def test_a_page_of_a_file_that_was_replaced_is_refused_as_ever(gateway: Gateway) -> None:
    assert again(gateway, X_Dataset_Version="0" * 16).status == 409
    stop(gateway)
    assert again(gateway, X_Dataset_Version="0" * 16).status == 409


def test_another_site_is_told_nothing_of_a_closed_viewer(gateway: Gateway) -> None:
    stop(gateway)
    assert again(gateway, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403


def test_a_viewer_that_failed_says_so_to_a_browser_that_has_all(gateway: Gateway) -> None:
    gateway.get(f"{VIEWER}api/v0.2/x?die=1")
    until_now(lambda: gateway.phase("data/pbmc.h5ad") == "failed")
    assert again(gateway).status == 503


@pytest.mark.timeout(120)
def test_what_a_real_worker_tagged_the_gateway_tells_as_the_worker_would(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    names = ["layout/obs?layout-name=umap", "annotations/obs?annotation-name=kind", "colors", "config"]
    names += [
        "annotations/var?annotation-name=name_0",
        "data/var?var:name_0=1",
        "summarize/var?method=mean&var:name_0=1",
    ]
    accept = {"Accept": f"{BINARY}, application/json"}
    with running_gateway(tmp_path, python=sys.executable) as gateway:
        address = gateway.open("data/pbmc.h5ad") + "api/v0.2/"
        socket = next(word for each in gateway.workers() for word in each.cmdline() if word.endswith(".sock"))
        tags = {name: gateway.get(address + name, **accept).headers["ETag"] for name in names}
        told = [ask(Path(socket), f"/api/v0.2/{name}", If_None_Match=tags[name], **accept) for name in names]
        worker = next(each for each in gateway.workers() if socket in each.cmdline())
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            replies = [gateway.get(address + name, If_None_Match=tags[name], **accept) for name in names]
        finally:
            os.kill(worker.pid, signal.SIGCONT)
    for name, reply, its in zip(names, replies, told, strict=True):
        assert (name, reply.status, its.status) == (name, 304, 304)
        for header in ("ETag", "Cache-Control", "Vary", "Referrer-Policy", "X-Content-Type-Options", "X-Labels-Known"):
            assert reply.headers[header] == its.headers[header]
