"""Helpers for tests of the viewer: real workers, started as the gateway starts them, and tiny real datasets."""

import contextlib
import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import psutil

import forking

PATIENCE = 60.0
LAUNCH = [sys.executable, "-c", "from server.cli.cli import cli; cli()", "launch"]
OFFLINE = {"https_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # `cellxgene launch` checks online for a newer version


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path):
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str, method: str = "GET", body: Any = None, **headers: str) -> Reply:
    """Make one exchange over a unix socket; header names are written with underscores."""
    with contextlib.closing(_UnixConnection(path)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.suppress(
            BrokenPipeError
        ):  # a refusal may arrive before the body is sent; it is read all the same
            connection.request(method, target, body, named)
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())


class Server:
    """A program that serves HTTP on a unix socket, with a pipe as its leash and a file as its log."""

    def __init__(self, command: list[Any], place: Path, **popen: Any):
        self.place = place
        self.socket = place / "s"
        self.log = place / "log"
        with self.log.open("wb") as log:
            self.process = forking.popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=place,
                **popen,
            )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self.steps: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def next_step(self) -> dict[str, Any] | None:
        """Return the next line as JSON, or None at the end."""
        line = self._lines.get(timeout=PATIENCE)
        if not line:
            self._lines.put(line)
            return None
        self.steps.append(json.loads(line))
        return self.steps[-1]

    def wait_for(self, phase: str) -> dict[str, Any]:
        """Read steps until one has this phase, and return it."""
        while True:
            step = self.next_step()
            assert step is not None, f"it ended before {phase}: {self.log.read_text()}"
            if step["phase"] == phase:
                return step
            assert step["phase"] != "failed", step

    def ask(self, target: str, method: str = "GET", body: Any = None, **headers: str) -> Reply:
        return ask(self.socket, target, method, body, **headers)

    def api(self, name: str, method: str = "GET", body: Any = None, **headers: str) -> Reply:
        """Request the viewer's data as its page does."""
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content_Type": "application/json", **headers}
        return self.ask(f"/api/v0.2/{name}", method, body, **headers)

    def cut_leash(self) -> int:
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.process.stdin.close()
        self.process.stdout.close()

    def most_memory(self) -> int:
        """Return the peak of its memory, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextlib.contextmanager
def worker(
    dataset: Path | str | bytes,
    labels: Path | None = None,
    *,
    options: dict[str, Any] | None = None,
    extra: list[str] | None = None,
    ready: bool = True,
    path: Path | str = "",
    **popen: Any,
) -> Iterator[Server]:
    """Start a worker for the dataset, and wait until it is ready unless `ready` is false."""
    with tempfile.TemporaryDirectory(prefix="cxgw-") as place:
        home = Path(place)
        command = [sys.executable, "-m", "cxg_proxy.viewer", "serve", "--socket", home / "s"]
        command += ["--labels", labels or home / "labels", "--options", json.dumps(options or {})]
        command += [*(extra or []), "--", os.fsdecode(dataset)]
        environment = {"PATH": os.environ["PATH"], "HOME": place, "LANG": "C.UTF-8"}
        if path:
            environment["PYTHONPATH"] = str(path)
        server = Server(command, home, env=environment, **popen)
        try:
            if ready:
                server.wait_for("ready")
            yield server
        finally:
            server.close()


def failure(dataset: Path | str | bytes, **how: Any) -> dict[str, Any]:
    """Return the problem of a dataset that cannot be shown."""
    with worker(dataset, ready=False, **how) as server:
        while (step := server.next_step()) is not None:
            assert step["phase"] != "ready"
            if step["phase"] == "failed":
                assert server.process.wait(PATIENCE) == 1
                return step["problem"]
        raise AssertionError(f"it ended without a word: {server.log.read_text()}")


@dataclass(frozen=True)
class Launched:
    """A running `cellxgene launch`."""

    process: psutil.Process
    port: int

    def listens(self) -> bool:
        """Whether it accepts connections yet."""
        return any(one.status == psutil.CONN_LISTEN for one in self.process.net_connections("inet"))


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def cells(count: int = 60, genes: int = 12, **parts: Any) -> anndata.AnnData:
    """Make a small dataset with embeddings, a category of three labels and a number for each cell."""
    random = np.random.default_rng(1)
    data = anndata.AnnData(random.random((count, genes), dtype=np.float32))
    data.obs_names = [f"cell#{number}" for number in range(count)]
    data.var_names = [f"gene{number}" for number in range(genes)]
    data.obs["kind"] = pd.Categorical([("B", "T", "NK")[number % 3] for number in range(count)])
    data.obs["size"] = random.random(count, dtype=np.float32)
    data.obsm["X_umap"] = parts.get("umap", random.random((count, 2)))
    data.obsm["X_tsne"] = random.random((count, 2))
    data.uns["kind_colors"] = ["red", "#00ff00", "#0000FF"]
    data.uns["size_colors"] = ["red"]
    return data


def compare(server: Server, one: Any, other: Any, count: Any = 5) -> Reply:
    sets = {f"set{number}": {"filter": {"obs": {"index": index}}} for number, index in ((1, one), (2, other))}
    return server.api("diffexp/obs", "POST", {"mode": "topN", "count": count, **sets})
