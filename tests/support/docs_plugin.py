"""The built documentation as a fixture; a test file asks for it with `pytest_plugins`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from docs_site import Site
from places import CHECKOUT


@pytest.fixture(name="documentation", scope="session")
def a_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The documentation, built as by `make docs` into a temporary folder; fails with the output of MkDocs."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-W", "error", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return Site(folder, said)
