"""Where the gateway listens, who may reach it there, and what it prints of it."""

import http.client
import os
import re
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import cxg_proxy
from gateways import COMMAND, a_dataset, answers, run, running_gateway, viewer_python  # noqa: F401 - fixtures
from waiting import until_now


def test_the_socket_is_its_owners_alone_and_goes_with_the_gateway(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert stat.S_IMODE(os.stat(gateway.path).st_mode) == 0o600
        gateway.open("data/pbmc.h5ad")
        argv = next(each.cmdline() for each in gateway.workers() if "serve" in each.cmdline())
        worker = Path(argv[argv.index("--socket") + 1])
        assert stat.S_IMODE(worker.stat().st_mode) == 0o600
        assert stat.S_IMODE(worker.parent.stat().st_mode) == 0o700
        path = Path(gateway.path)
        gateway.process.terminate()
        gateway.process.wait(10)
        assert not path.exists()
        assert not worker.parent.exists()


def test_no_tcp_port_is_opened_behind_a_socket(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.open("data/pbmc.h5ad")
        serving = [each for each in gateway.workers() if "serve" in each.cmdline()]
        for process in [psutil.Process(gateway.process.pid), *serving]:
            assert process.net_connections("inet") == []


def test_a_socket_that_is_in_use_is_not_taken_over(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        ended = run(f"--socket={gateway.path}", folder=tmp_path)
        assert ended.returncode != 0
        assert "another program listens on this socket" in ended.stderr
        assert gateway.get("/api/health").status == 200


def test_a_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path: Path, short: Path, dataset: Path) -> None:
    (short / "file").write_text("mine")
    ended = run(f"--socket={short / 'file'}", folder=tmp_path)
    assert "is no socket" in ended.stderr
    assert (short / "file").read_text() == "mine"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(short / "stale"))
    stale.close()
    process = subprocess.Popen([*COMMAND, f"--socket={short / 'stale'}", f"--library=d={tmp_path}"], cwd=tmp_path)
    until_now(lambda: answers(str(short / "stale")))
    process.terminate()
    assert process.wait(10) == 0


def test_a_port_that_is_in_use_is_said_to_be(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(f"--port={port}", folder=tmp_path)
    assert f"127.0.0.1 port {port}" in ended.stderr
    assert "in use" in ended.stderr
    assert "--port" in ended.stderr


@pytest.fixture
def on_tcp(tmp_path: Path, short: Path, dataset: Path) -> Iterator[tuple[str, str]]:
    """A gateway on a free port: its address and token, as printed."""
    log = tmp_path / "log"
    command = [*COMMAND, "--port=0", f"--library=data={tmp_path / 'data'}", f"--home={tmp_path / 'home'}"]
    command += [f"--viewer-python={viewer_python(short)}"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=tmp_path)
    until_now(lambda: "token=" in log.read_text())
    found = re.search(r"(http://\S+)\?token=(\S+)", log.read_text())
    assert found
    yield found[1], found[2]
    process.terminate()
    process.wait(10)


def ask(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:  # noqa: S310 - ours
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@pytest.mark.parametrize(
    "path", ["", "instances", "api/datasets", "api/instances", "view/data/pbmc.h5ad/", "metrics", "api/progress/x"]
)
def test_on_a_port_every_request_needs_the_token(path: str, on_tcp: tuple[str, str]) -> None:
    address, token = on_tcp
    assert ask(address + path)[0] == 403
    assert ask(address + path, Authorization=f"token {token}x")[0] == 403
    assert ask(address + path, Authorization=f"token {token}")[0] != 403
    assert ask(address + "view/data/pbmc.h5ad/api/v0.2/schema")[0] == 403


def test_the_cookie_of_a_printed_link_is_out_of_a_scripts_reach_and_follows_a_link_from_mail(
    on_tcp: tuple[str, str],
) -> None:
    address, token = on_tcp
    connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))
    connection.request("GET", f"/?token={token}")
    cookie = connection.getresponse().headers["Set-Cookie"]
    connection.close()
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_printed_link_to_nowhere_is_no_error_of_ours_and_leaves_no_token_in_the_log(
    on_tcp: tuple[str, str], tmp_path: Path
) -> None:
    address, token = on_tcp
    before = (tmp_path / "log").read_text()
    assert ask(f"{address}nothing?token={token}")[0] in (403, 404)
    assert (tmp_path / "log").read_text() == before


def test_the_printed_link_logs_a_browser_in_and_drops_the_token_from_the_address(on_tcp: tuple[str, str]) -> None:
    address, token = on_tcp
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(f"{address}?token={token}&q=pbmc") as reply:
        assert reply.url == f"{address}?q=pbmc"
    with opener.open(f"{address}api/datasets") as reply:
        assert reply.status == 200


def test_the_version_which_galaxy_asks_for_before_its_tool_may_listen_is_told_before_anything_is_loaded() -> None:
    asked = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",  # where the installed package is found, and not its sources
    )
    assert asked.stdout == f"{cxg_proxy.__version__}\n"
    loaded = {line.rpartition("|")[2].strip() for line in asked.stderr.splitlines()}
    assert "cxg_proxy.doors.early_socket" in loaded
    assert not loaded & {"tornado", "traitlets", "asyncio", "cxg_proxy.gateway.app"}
