"""What is given to a package index: builds from a copy of the checkout, without git and without the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution, distribution
from pathlib import Path

import pytest

import cxg_proxy
from places import CHECKOUT

pytestmark = pytest.mark.timeout(120)
FILES = r"https://github\.com/cxg-proxy/cxg_proxy/blob/(?:HEAD|v[\d.]+)/"
INIT = Path("cxg_proxy", "__init__.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build reads."""
    return copied(tmp_path / "checkout")


def copied(folder: Path) -> Path:
    left_out = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("cxg_proxy", "requirements", "build/labextension"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=left_out)
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "Makefile"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


# --- what a package index says of it -------------------------------------------------------------------------------


def test_the_metadata_name_the_authors_as_the_license_does_and_addresses_that_exist() -> None:
    said = distribution("cxg-proxy").metadata
    assert said["Author"].lower() in (CHECKOUT / "LICENSE").read_text()
    addresses = dict(text.split(", ", 1) for text in said.get_all("Project-URL") or ())
    assert {"Documentation", "Changelog", "Issues", "Source"} <= set(addresses)
    files = [re.sub(f"^{FILES}", "", each) for each in addresses.values() if re.match(FILES, each)]
    assert len(files) == 2
    assert all((CHECKOUT / name).is_file() for name in files)


# --- versions ------------------------------------------------------------------------------------------------------


def version(checkout: Path) -> str:
    """What a build of a checkout is called."""
    build = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('build')"
    subprocess.run([sys.executable, "-c", build], cwd=checkout, capture_output=True, timeout=60, check=True)
    (folder,) = (checkout / "build").glob("*.dist-info")
    found = PathDistribution(folder).version
    shutil.rmtree(folder)
    return found


def test_the_package_says_the_version_that_its_metadata_have() -> None:
    assert cxg_proxy.__version__ == distribution("cxg-proxy").version


def test_builds_between_two_releases_differ_if_any_file_of_the_package_does(checkout: Path) -> None:
    (checkout / INIT).write_text('__version__ = "1.2.0.dev0"\n')
    before = version(checkout)
    assert re.fullmatch(r"1\.2\.0\.dev0\+[0-9a-f]{10}", before)
    assert version(checkout) == before
    with (checkout / "cxg_proxy" / "__main__.py").open("a") as file:
        file.write("\n")
    assert version(checkout) != before


def test_what_an_images_build_lacks_does_not_make_a_build_another_one(checkout: Path) -> None:
    (checkout / INIT).write_text('__version__ = "1.2.0.dev0"\n')
    before = version(checkout)
    shutil.rmtree(checkout / "cxg_proxy" / "labextension")
    assert version(checkout) == before


def test_a_release_has_the_very_version_that_is_written_down(checkout: Path) -> None:
    (checkout / INIT).write_text('__version__ = "1.2.0"\n')
    assert version(checkout) == "1.2.0"
