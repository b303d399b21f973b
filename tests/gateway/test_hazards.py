"""What plain cellxgene does to its hosts, and what a gateway does; other rows stand with what they are about."""

import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets import labels_body, write_dataset
from gateways import SAME_SITE, running_gateway
from places import CHECKOUT
from waiting import until_now

pytestmark = pytest.mark.timeout(120)
# Notes every look-up of a host's name and answers none; waitress parses its default address, 0.0.0.0, as one.
LISTENING = """
import os, socket
look_up = socket.getaddrinfo
def refuse(host, *arguments, **options):
    if host in (None, "0.0.0.0", "127.0.0.1", "localhost"):
        return look_up(host, *arguments, **options)
    with open(os.environ["XDG_LOOKED_UP"], "a") as note:
        note.write(f"{host}\\n")
    raise OSError("no network")
socket.getaddrinfo = refuse
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data" / "pbmc.h5ad")


@pytest.fixture
def overheard(tmp_path: Path) -> dict[str, str]:
    """An environment in which look-ups are noted."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(LISTENING)
    return {"PYTHONPATH": str(tmp_path / "site"), "XDG_LOOKED_UP": str(tmp_path / "looked-up")}


def plain(*options: str, **environment: str) -> subprocess.Popen[str]:
    """`cellxgene launch` as its makers ship it."""
    command = [sys.executable, "-c", "from server.cli.cli import cli; cli()", "launch", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )


@pytest.mark.hazard(17)
def test_plain_cellxgene_asks_the_web_for_a_newer_version(dataset: Path, overheard: dict[str, str]) -> None:
    process = plain(str(dataset), **overheard)
    try:
        until_now(Path(overheard["XDG_LOOKED_UP"]).exists, seconds=40)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.hazard(17)
def test_a_viewer_of_ours_asks_nobody(dataset: Path, tmp_path: Path, overheard: dict[str, str]) -> None:
    options = f"--Gateway.viewer_environment={json.dumps(overheard)}"
    with running_gateway(tmp_path, options, python=sys.executable) as gateway:
        address = gateway.open("data/pbmc.h5ad")
        assert gateway.get(address + "api/v0.2/config").status == 200
    assert not Path(overheard["XDG_LOOKED_UP"]).exists()


@pytest.mark.hazard(18)
def test_plain_cellxgene_asks_a_question_before_it_adds_a_script(dataset: Path) -> None:
    process = plain("--scripts", "https://stats.example.org/a.js", str(dataset))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Are you sure" in said


@pytest.mark.hazard(18)
def test_scripts_come_from_the_configuration_without_a_question(dataset: Path, tmp_path: Path) -> None:
    options = json.dumps({"scripts": ["https://stats.example.org/a.js"]})
    with running_gateway(tmp_path, f"--Gateway.viewer_options={options}", python=sys.executable) as gateway:
        page = gateway.get(gateway.open("data/pbmc.h5ad"), Accept="text/html")
    assert 'src="https://stats.example.org/a.js"' in page.text
    assert page.text.index('src="cxg-proxy/saves.js"') < page.text.index('src="cxg-proxy/viewer.js"')
    assert "https://stats.example.org" in page.headers["Content-Security-Policy"]


def test_options_reach_single_datasets_from_the_configuration_and_from_the_file_beside_them(
    dataset: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "data" / "other.h5ad")
    (tmp_path / "data" / "other.h5ad.cxg.yaml").write_text("title: From the file\n")
    options = [
        "--Gateway.viewer_options=" + repr({"disable_diffexp": True}),
        "--Gateway.dataset_options=" + repr({"data/pbmc.h5ad": {"title": "From the configuration"}}),
    ]
    with running_gateway(tmp_path, *options, python=sys.executable) as gateway:
        for name, title in {"pbmc": "From the configuration", "other": "From the file"}.items():
            config = gateway.get(gateway.open(f"data/{name}.h5ad") + "api/v0.2/config").json["config"]
            assert config["displayNames"]["dataset"] == title
            assert config["parameters"]["disable-diffexp"] is True


def test_a_request_beyond_the_memory_limit_says_so_and_all_viewers_live_on(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "large.h5ad", cells=60_000, genes=1200)
    write_dataset(tmp_path / "data" / "small.h5ad")
    limits = ("--memory-limit=400000000", "--cache-limit=0")  # so that it must be read into memory
    with running_gateway(tmp_path, *limits, python=sys.executable) as gateway:
        gateway.open("data/small.h5ad")
        address = gateway.open("data/large.h5ad")
        reply = gateway.get(f"{address}api/v0.2/data/var?var:name_0=gene1", Accept="application/octet-stream")
        assert reply.status == 503
        assert "memory" in reply.json["message"]
        assert [gateway.phase(f"data/{name}.h5ad") for name in ("small", "large")] == ["ready", "ready"]


def test_a_large_dataset_needs_no_more_memory_than_a_small_one_once_it_is_prepared(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "large.h5ad", cells=60_000, genes=1200)
    with running_gateway(tmp_path, "--memory-limit=400000000", python=sys.executable) as gateway:
        address = gateway.open("data/large.h5ad")
        reply = gateway.get(f"{address}api/v0.2/data/var?var:name_0=gene1", Accept="application/octet-stream")
        assert reply.status == 200


def test_a_viewer_whose_memory_limit_is_too_low_for_anything_says_so(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "small.h5ad")
    with running_gateway(tmp_path, "--memory-limit=60000000", python=sys.executable) as gateway:
        gateway.get("/view/data/small.h5ad/", Accept="text/html")
        until_now(lambda: gateway.phase("data/small.h5ad") == "failed", seconds=40)
        assert "Not enough memory" in gateway.get("/view/data/small.h5ad/", Accept="text/html").text


def test_a_read_only_gateway_changes_nothing(dataset: Path, tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--read-only", python=sys.executable) as gateway:
        address = gateway.open("data/pbmc.h5ad")
        reply = gateway.ask("PUT", address + "api/v0.2/annotations/obs", SAME_SITE, labels_body(30, "x"))
        assert reply.status >= 400
        assert gateway.get(address + "api/v0.2/config").json["config"]["parameters"]["annotations"] is False
    assert not (tmp_path / "labels").exists()


@pytest.mark.hazard(22)
def test_plain_cellxgene_leaves_what_it_downloaded_when_it_is_killed(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.mkdir()
    with stalling_site() as address:
        process = plain(f"{address}atlas.h5ad", TMPDIR=str(left))
        try:
            until_now(lambda: list(left.glob("cellxgene_*.h5ad")), seconds=40)
        finally:
            process.kill()
            process.communicate()
    assert list(left.glob("cellxgene_*.h5ad"))


@contextlib.contextmanager
def stalling_site() -> Iterator[str]:
    """A server that sends the beginning of a file and then no more."""

    class Stalling(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000000")
            self.end_headers()
            with contextlib.suppress(OSError):  # it asks once only to see whether there is anything
                self.wfile.write(bytes(30_000_000))
                over.wait(60)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    over = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as site:
        serving = threading.Thread(target=site.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{site.server_port}/"
        finally:
            over.set()
            site.shutdown()
            serving.join()


# The rows that this project answers for; the others belong to the statistics.
ANSWERED = {*range(1, 10), 12, 13, *range(17, 29)}


def test_every_hazard_has_a_test_of_its_own() -> None:
    texts = [file.read_text() for file in (CHECKOUT / "tests").rglob("test_*.py")]
    marked = {int(row) for text in texts for row in re.findall(r"mark\.hazard\((\d+)\)", text)}
    assert marked >= ANSWERED
