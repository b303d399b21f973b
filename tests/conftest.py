"""Fixtures and hooks for every test, with the check that no child process is left over."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distribution
import forking
from processes import gone
from waiting import until_now

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Divide the tests among the processes, if there are several."""
    return distribution.LongestFirst(config, log)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "doors" in item.path.parts or "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: distribution.order(item.nodeid))


@pytest.fixture
def h5ad(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny file with the suffix of a dataset; the gateway does not read its content."""

    def make(name: str = "data/pbmc.h5ad", content: bytes = b"not read by the gateway") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    return make


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="cxgt-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _hypothesis_begins() -> None:
    """Run hypothesis once, before there is any other thread.

    At its first run it registers its random generators, and it warns if another thread collects garbage just then.
    """
    settings(max_examples=1, database=None)(given(st.none())(lambda _: None))()


@pytest.fixture(scope="session", autouse=True)
def _forking_ends() -> Iterator[None]:
    yield
    forking.close()


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """Fail a test that leaves a child process behind; `running_gateway` checks the children and folders of gateways."""
    before = forking.children()
    yield
    until_now(lambda: all(gone(child) for child in forking.children() - before), seconds=3)
