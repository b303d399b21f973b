"""What the tests share: places, waiting, fake workers, and the check that nothing is left over."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FAKE = Path(__file__).parent / "workers" / "fake.py"


async def until(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait for a condition; fails when it is not met in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not met within {seconds} s"
        await asyncio.sleep(0.01)


def until_now(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """The same for tests without a loop."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not met within {seconds} s"
        time.sleep(0.01)


def fake(behaviour: str) -> Callable[[object, Path], list[str]]:
    """The command of a fake worker, in the form `instances` wants."""
    return lambda _, socket: [sys.executable, str(FAKE), behaviour, str(socket)]


@pytest.fixture
def h5ad(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny file with the suffix of a dataset; what is in it does not matter to the gateway."""

    def make(name: str = "data/pbmc.h5ad", content: bytes = b"not read by the gateway") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    return make


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a name short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="cxgt-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _hypothesis_begins() -> None:
    """At its first run hypothesis registers its random numbers, and warns if another thread collects garbage just then.

    There is no other thread yet.
    """
    settings(max_examples=1, database=None)(given(st.none())(lambda _: None))()


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """Fail a test that leaves a child behind; `running_gateway` sees to the gateways' own children and folders."""
    me = psutil.Process()
    before = {child.pid for child in me.children()}
    yield
    until_now(lambda: all(gone(child.pid) for child in me.children() if child.pid not in before), seconds=3)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def environment() -> dict[str, str]:
    """What a fake worker needs of its surroundings: this checkout's code, or the installed one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
