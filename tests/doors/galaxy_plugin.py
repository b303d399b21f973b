"""Galaxy's own code as fixtures, started once; a test file asks for them with `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from galaxy_tool import Galaxy, galaxy_python, galaxys_code


@pytest.fixture(scope="session")
def galaxys_python() -> Path:
    """The Python of Galaxy's environment; where there is none yet it takes a minute to make."""
    return galaxy_python()


@pytest.fixture(scope="session")
def galaxy(galaxys_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Galaxy]:
    """Galaxy's own code at work on our tool."""
    with galaxys_code(galaxys_python, tmp_path_factory.mktemp("galaxy")) as running:
        yield running
