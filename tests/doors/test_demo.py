"""`make demo`, as a person runs it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from hub_fixtures import is_alive
from jupyter_fixtures import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


def make_demo(log: Path, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """It has a folder of its own: somebody may look at another demo of this checkout meanwhile."""
    with log.open("wb") as output:
        return subprocess.Popen(
            ["make", "demo", f"PORT={port}", "PASSWORD=just-a-test", f"FOLDER={folder}"],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@pytest.fixture
def port() -> int:
    """A port with five free ones after it, where the system lets no client's connection begin."""
    wanted = (random.randrange(20_000, 32_000) for _ in range(100))
    return next(port for port in wanted if not taken(*range(port, port + 6)))


def taken(*ports: int) -> bool:
    """Whether anybody listens on one of these ports."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
    return False


@pytest.fixture
def folder(short: Path) -> Path:
    """A folder that the demo makes, where the user that it becomes can enter."""
    short.chmod(0o755)
    return short / "demo"


@pytest.fixture
def demo(port: int, folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = tmp_path / "demo.log"
    process = make_demo(log, port, folder)
    yield process, log
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(40)


@contextlib.contextmanager
def logged_in(url: str, user: str, password: str) -> Iterator[httpx.Client]:
    """What a browser does with the login form; it ends in the user's own server."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=60) as client:
        client.get("hub/login")
        form = {"username": user, "password": password, "_xsrf": client.cookies.get("_xsrf", path="/hub/") or ""}
        client.post("hub/login", data=form)
        yield client


@pytest.mark.timeout(300)
def test_the_demo_shows_its_dataset_refuses_a_second_and_ctrl_c_ends_everything(
    demo: tuple[subprocess.Popen[bytes], Path], port: int, folder: Path, tmp_path: Path
) -> None:
    process, log = demo
    wait_until(lambda: "Ctrl-C ends" in log.read_text() or process.poll() is not None, "the demo", 120)
    said = log.read_text()
    assert process.poll() is None, said
    url = next(iter(re.findall(r"http://127\.0\.0\.1:\d+/", said)))
    assert url == f"http://127.0.0.1:{port}/"
    assert "ana, ben" in said
    assert "just-a-test" in said
    with logged_in(url, "ana", "wrong-password") as stranger:
        assert stranger.get("user/ana/cellxgene/api/datasets").url.path == "/hub/login"
    with logged_in(url, "ana", "just-a-test") as ana:
        listed = "user/ana/cellxgene/api/datasets"
        wait_until(lambda: '"datasets"' in ana.get(listed).text, "ana's server", 90)
        assert [each["name"] for each in ana.get(listed).json()["datasets"]] == ["demo/pbmc68k_reduced.h5ad"]

    second = tmp_path / "second.log"
    assert make_demo(second, port + 3, folder).wait(60) != 0
    assert f"another demo runs in {folder}" in second.read_text()
    assert "make demo PORT=9000 FOLDER=" in second.read_text()

    everybody = psutil.Process(process.pid).children(recursive=True)
    kinds = ("configurable-http-proxy", "jupyterhub-singleuser", "cxg_proxy.__main__")
    commands = "\n".join(" ".join(each.cmdline()) for each in everybody)
    assert all(kind in commands for kind in kinds)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    wait_until(lambda: not any(map(is_alive, everybody)), "the end of every process")
    assert "Nothing is left running" in log.read_text()
    assert not taken(port, port + 1)


def test_a_taken_port_gets_a_sentence_that_says_what_to_do(tmp_path: Path, port: int, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", port + 1)):
        log = tmp_path / "demo.log"
        assert make_demo(log, port, folder).wait(60) != 0
    assert f"port {port + 1} of this machine cannot be used" in log.read_text()
    assert "make demo PORT=" in log.read_text()
