"""What is given to a package index: builds from a copy of the checkout, without git and without the network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution, distribution, distributions
from pathlib import Path

import pytest
from readme_renderer import markdown

import cxg_proxy
from places import CHECKOUT

pytestmark = pytest.mark.timeout(120)
FILES = r"https://github\.com/cxg-proxy/cxg_proxy/blob/(?:HEAD|v[\d.]+)/"
PICTURES = r"https://raw\.githubusercontent\.com/cxg-proxy/cxg_proxy/(?:HEAD|v[\d.]+)/"
OFFLINE = {**os.environ, "UV_OFFLINE": "1"}
INIT = Path("cxg_proxy", "__init__.py")


@pytest.fixture(name="dist", scope="module")
def a_dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes of a copy of the checkout."""
    checkout = copied(tmp_path_factory.mktemp("dist") / "checkout")
    (checkout / ".venv").symlink_to(sys.prefix)
    command = ["make", "--assume-old=environment", "dist"]
    subprocess.run(command, cwd=checkout, env=OFFLINE, capture_output=True, timeout=100, check=True)
    return checkout / "build" / "dist"


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


# --- the files -----------------------------------------------------------------------------------------------------


def test_the_wheel_and_the_source_distribution_install_the_same_as_the_checkout(dist: Path, tmp_path: Path) -> None:
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    of_wheel, of_source = installed(wheel, tmp_path / "wheel"), installed(source, tmp_path / "source")
    assert of_wheel == of_source
    assert any(name.startswith("share/jupyter/labextensions/cxg-proxy/static/") for name in of_wheel)
    here = {str(each): each.hash.value for each in distribution("cxg-proxy").files or () if each.hash}
    modules = {name: content for name, content in of_wheel.items() if name.startswith("cxg_proxy/")}
    assert modules == {name: content for name, content in here.items() if name.startswith("cxg_proxy/")}


def installed(file: Path, folder: Path) -> dict[str, str]:
    """What a file installs, without the network, apart from the note whence it came: each file's digest by its name."""
    uv = Path(sys.executable).with_name("uv")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--python", sys.executable]
    command = [uv, "pip", "install", *options, "--target", folder, file]
    subprocess.run(command, env=OFFLINE, capture_output=True, timeout=100, check=True)
    (made,) = [each for each in distributions(path=[str(folder)]) if each.name == "cxg-proxy"]
    notes = ("direct_url.json", "uv_cache.json", "uv_build.json")
    return {str(each): each.hash.value for each in made.files or () if each.hash and each.name not in notes}


# --- what a package index says of it -------------------------------------------------------------------------------


def test_the_metadata_name_the_authors_as_the_license_does_and_addresses_that_exist() -> None:
    said = distribution("cxg-proxy").metadata
    assert said["Author"].lower() in (CHECKOUT / "LICENSE").read_text()
    addresses = dict(text.split(", ", 1) for text in said.get_all("Project-URL") or ())
    assert {"Documentation", "Changelog", "Issues", "Source"} <= set(addresses)
    files = [re.sub(f"^{FILES}", "", each) for each in addresses.values() if re.match(FILES, each)]
    assert len(files) == 2
    assert all((CHECKOUT / name).is_file() for name in files)


def test_the_readme_is_whole_on_the_page_of_a_package_index() -> None:
    html = markdown.render(distribution("cxg-proxy").metadata.get_payload()) or ""
    for heading in re.findall(r"^## (.+)$", (CHECKOUT / "README.md").read_text(), re.MULTILINE):
        assert heading in html
    shown = re.findall(r'\bsrc="([^"]*)"', html)
    links = re.findall(r'\bhref="([^"]*)"', html)
    assert len(shown) == (CHECKOUT / "README.md").read_text().count("![")
    assert [each for each in shown + links if not each.startswith(("https://", "#"))] == []
    files = re.findall(rf'"(?:{FILES}|{PICTURES})([^"#]+)', html)
    assert len(files) > 8
    assert [name for name in files if not (CHECKOUT / name).is_file()] == []


def test_the_readme_of_a_release_shows_the_pictures_and_pages_of_that_release(checkout: Path) -> None:
    (checkout / INIT).write_text('__version__ = "1.2.0"\n')
    text = str(PathDistribution(metadata(checkout)).metadata.get_payload())
    assert "https://raw.githubusercontent.com/cxg-proxy/cxg_proxy/v1.2.0/docs/screenshot.png" in text
    assert "https://github.com/cxg-proxy/cxg_proxy/blob/v1.2.0/CHANGELOG.md" in text


# --- versions ------------------------------------------------------------------------------------------------------


def version(checkout: Path) -> str:
    """What a build of a checkout is called."""
    return PathDistribution(metadata(checkout)).version


def metadata(checkout: Path) -> Path:
    """The folder of metadata that a build of a checkout makes."""
    shutil.rmtree(checkout / "metadata", ignore_errors=True)
    (checkout / "metadata").mkdir()
    build = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('metadata'))"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, check=True)
    return checkout / "metadata" / done.stdout.splitlines()[-1]


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
