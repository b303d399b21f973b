"""A real Jupyter server of one's own, with this package installed beside it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import psutil

TOKEN = "tests-only"


class JupyterServer:
    """A running Jupyter server: its address, and a client that holds its token."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log
        self.client = httpx.Client(base_url=url, headers={"Authorization": f"token {TOKEN}"}, timeout=70)

    def get(self, address: str, **options: object) -> httpx.Response:
        return self.client.get(address, **options)  # type: ignore[arg-type]

    def gateway(self) -> psutil.Process | None:
        """The gateway that this server has started."""
        children = psutil.Process(self.process.pid).children()
        return next((each for each in children if "cxg_proxy.__main__" in " ".join(each.cmdline())), None)

    def socket(self) -> Path:
        """The gateway's socket, from its command line."""
        gateway = self.gateway()
        assert gateway is not None
        return Path(next(word for word in gateway.cmdline() if word.startswith("--socket=")).partition("=")[2])


@contextlib.contextmanager
def jupyter_server(folder: Path, root: Path, app: str = "lab", **environment: str) -> Iterator[JupyterServer]:
    """Run `jupyter <app>` with `root` as its folder; everything it writes goes below `folder`."""
    assert entry_points(group="jupyter_serverproxy_servers", name="cellxgene"), "cxg-proxy is not installed: make test"
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    own = {"HOME": str(home), "JUPYTER_RUNTIME_DIR": str(folder / "run"), "JUPYTER_PLATFORM_DIRS": "1"}
    command = [
        str(Path(sys.executable).with_name(f"jupyter-{app}")),
        "--no-browser",
        "--ip=127.0.0.1",
        "--port=0",
        "--allow-root",
    ]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"]
    log = folder / "jupyter.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env={**os.environ, **own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        server = JupyterServer(process, _address(process, folder / "run", log), log)
        with server.client:
            yield server
    finally:
        _end(process)


def _address(process: subprocess.Popen[bytes], run: Path, log: Path) -> str:
    """Jupyter says where it listens in a file of its runtime folder."""
    end = time.monotonic() + 50
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        for file in run.glob(f"jpserver-{process.pid}.json"):
            with contextlib.suppress(ValueError, KeyError):
                return str(json.loads(file.read_text())["url"])
        time.sleep(0.05)
    raise AssertionError(f"no Jupyter server within 50 s: {log.read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 15) -> None:
    """Wait for something that is about to happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
