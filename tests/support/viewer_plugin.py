"""Fixtures with real workers; a test file requests them with `pytest_plugins`."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from viewer_fixtures import LAUNCH, OFFLINE, Launched, Server, cells, until, worker


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of sixty cells, with more genes than most comparisons need."""
    path = tmp_path_factory.mktemp("small") / "small cells.h5ad"
    cells(genes=2500).write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose replies are larger than a slice."""
    path = tmp_path_factory.mktemp("large") / "large.h5ad"
    cells(40_000, 120).write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def shown(large: Path) -> Iterator[Server]:
    """A worker that tests only read from."""
    with worker(large, extra=["--threads", "3"]) as server:
        yield server


@contextlib.contextmanager
def _plain(dataset: Path, **environment: str) -> Iterator[Server]:
    script = Path(__file__).with_name("viewer_plain.py")
    with tempfile.TemporaryDirectory(prefix="cxgw-") as place:
        command = [sys.executable, script, dataset, Path(place) / "s"]
        server = Server(command, Path(place), env={**os.environ, **environment})
        try:
            server.wait_for("ready")
            yield server
        finally:
            server.close()


@pytest.fixture(scope="session")
def plain(small: Path) -> Iterator[Server]:
    """Plain cellxgene on its own development server, to show what cxg-proxy corrects."""
    with _plain(small) as server:
        yield server


@pytest.fixture(scope="session")
def launched(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """An unchanged `cellxgene launch` on a port."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as chosen:
        port = chosen.getsockname()[1]
    place = tmp_path_factory.mktemp("launched")
    command = [*LAUNCH, "--port", str(port), small]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place, env={**os.environ, **OFFLINE}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        found = Launched(psutil.Process(process.pid), port)
        until(lambda: process.poll() is not None or found.listens())
        assert process.poll() is None, (place / "log").read_text()
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def start_plain() -> Callable[..., AbstractContextManager[Server]]:
    """A function that starts plain cellxgene, for a test that breaks it."""
    return _plain
