"""Real gateway processes with fake (or real) workers behind them, and a client for their sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

import forking
from processes import FAKE, gone
from waiting import until_now

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
PAGE = {"Accept": "text/html"}
COMMAND = [sys.executable, "-m", "cxg_proxy"]


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: str, timeout: float = 30) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Reply:
    """A reply, read completely."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["problem"]
        return found


class Worker(psutil.Process):
    """A process below a gateway, which may end at any moment."""

    def cmdline(self) -> list[str]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return list(super().cmdline())
        return []


class Gateway:
    """A running `cxg-proxy`."""

    def __init__(self, process: subprocess.Popen[bytes] | forking.Forked, path: str, log: Path) -> None:
        self.process, self.path, self.log = process, path, log

    def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: Any = None) -> Reply:
        connection = UnixConnection(self.path)
        try:
            connection.request(method, target, body=body, headers=headers or {})
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def get(self, target: str, **headers: str) -> Reply:
        return self.ask("GET", target, {name.replace("_", "-"): value for name, value in headers.items()})

    def open(self, name: str) -> str:
        """Open a dataset and wait until its worker is ready; returns its address."""
        address = f"/view/{name}/"
        assert self.get(address, Accept="text/html").status == 200
        until_now(lambda: self.phase(name) == "ready")
        return address

    def phase(self, name: str) -> str:
        found = self.get(f"/api/progress/{name}")
        return str(found.json["phase"]) if found.status == 200 else "closed"

    def instances(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/instances").json["instances"]
        return found

    def xsrf(self) -> str:
        """Return the token that the forms of our pages hold."""
        return self.xsrf_of("/instances")

    def xsrf_of(self, target: str) -> str:
        """Return the token from the form on a page."""
        page = self.get(target, Accept="text/html").text
        found = re.search(r'name="_xsrf" value="([^"]+)"', page)
        assert found, f"no form on {target}"
        return found[1]

    def post(self, target: str, fields: dict[str, str], **headers: str) -> Reply:
        body = "&".join(f"{name}={value}" for name, value in fields.items())
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", target, {"Content-Type": "application/x-www-form-urlencoded", **more}, body)

    def workers(self) -> list[Worker]:
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(Worker(each.pid))
        return found


def viewer_python(folder: Path) -> Path:
    """Write a program for --viewer-python that runs the fake worker."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    program.chmod(0o755)
    return program


@contextlib.contextmanager
def running_gateway(
    folder: Path,
    *options: str,
    python: str | None = None,
    by: str = sys.executable,
    temporary: Path | None = None,
    library: bool = True,
    fresh: bool = False,
    **environment: str,
) -> Iterator[Gateway]:
    """Start a gateway whose library `data` is `folder/data`; it must leave nothing behind when it ends.

    `python` runs the viewer and `by` the gateway. `fresh` starts a new program instead of forking one, for tests of its
    command line. The gateway gets a temporary folder, which must be empty afterwards, or `temporary`, which stays.
    """
    short = temporary or Path(tempfile.mkdtemp(prefix="cxgt-", dir="/tmp"))
    environment |= {"TMPDIR": str(short), "XDG_RUNTIME_DIR": str(short)}
    path, log = str(short / "s"), folder / "gateway.log"
    (folder / "data").mkdir(exist_ok=True)
    command = [by, "-m", "cxg_proxy", "--socket", path, *(["--library", f"data={folder / 'data'}"] if library else [])]
    command += ["--viewer-python", python or str(viewer_python(short)), "--home", str(folder / "labels")]
    command += [f"--Gateway.cache={folder / 'cache'}", f"--Gateway.logs={folder / 'logs'}", *options]
    with log.open("wb") as out:
        start = subprocess.Popen if fresh else forking.popen
        process = start(command, env={**os.environ, **environment}, stdout=out, stderr=out, cwd=folder)
    gateway = Gateway(process, path, log)
    try:
        until_now(lambda: process.poll() is not None or answers(path))
        assert process.poll() is None, log.read_text()
        yield gateway
    finally:
        workers = gateway.workers()
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        until_now(lambda: all(gone(each.pid) for each in workers), seconds=5)
        (short / "python").unlink(missing_ok=True)
        if temporary is None:
            short.rmdir()


def answers(path: str) -> bool:
    """Whether a process listens on a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


Serve = Callable[..., Gateway]


@pytest.fixture(name="serve")
def a_serve(tmp_path: Path) -> Iterator[Serve]:
    """A function that starts a gateway on datasets of these names."""
    with contextlib.ExitStack() as stack:

        def start(*names: str, options: tuple[str, ...] = ()) -> Gateway:
            for name in names:
                file = tmp_path / "data" / f"{name}.h5ad"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"")
            return stack.enter_context(running_gateway(tmp_path, *options))

        yield start


@pytest.fixture(name="dataset")
def a_dataset(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "pbmc.h5ad"
    file.write_bytes(b"")
    return file


def run(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    done = forking.run([*COMMAND, *options], seconds=10, cwd=folder, env=environment)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def find(gateway: Gateway, path: str | Path, more: str = "") -> Reply:
    return gateway.get(f"/api/find?{more}path={quote(os.fsencode(path), safe='')}")


def found(gateway: Gateway, path: str | Path) -> dict[str, Any]:
    reply = find(gateway, path)
    assert reply.status == 200, reply.text
    return dict(reply.json)


def failed_page(gateway: Gateway, name: str) -> str:
    """Return the page that a visitor sees when a viewer cannot start."""
    gateway.get(f"/view/data/{name}.h5ad/", Accept="text/html")
    until_now(lambda: gateway.phase(f"data/{name}.h5ad") == "failed", seconds=40)
    reply = gateway.get(f"/view/data/{name}.h5ad/", Accept="text/html")
    assert reply.status >= 400
    assert "Try again" in reply.text
    assert "Traceback" not in reply.text.partition("<details")[0]
    return reply.text
