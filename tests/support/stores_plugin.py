"""Fixtures for stores; a test file requests them with `pytest_plugins`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from stores_fixtures import MEMORY, PLENTY, Make, ignore, never, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "data" / "cells.h5ad")


@pytest.fixture
def site(short: Path) -> Path:
    """A place that all users can reach."""
    short.chmod(0o755)
    return short


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def stores(cache: Path) -> Iterator[Stores]:
    """The stores of this process."""
    made = Stores(cache, None, limit=PLENTY, memory=MEMORY)
    yield made
    made.close()


@pytest.fixture
def make(stores: Stores) -> Make:
    """A function that makes the store of a dataset in this process."""
    return lambda source, layer=None: stores.make(Origin.of(str(source), layer), ignore, never)
