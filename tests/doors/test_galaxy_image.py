"""The Galaxy tool's image, as far as its files say: what is in it, by which versions, and who it runs as."""

from __future__ import annotations

import configparser
import fnmatch
import re

import pytest
from galaxy_tool import CHECKOUT, FOLDER

REQUIREMENTS = CHECKOUT / "requirements"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


def pins(name: str) -> set[str]:
    """The requirements of a lock, each with its version and the machines it is for."""
    return set(re.findall(r"^([\w.-]+==[^\s;]+)", (REQUIREMENTS / name).read_text(), re.MULTILINE))


def test_the_image_holds_only_versions_that_are_tested() -> None:
    held = pins("galaxy-image.txt")
    assert held <= pins("lock.txt")
    names = {pin.partition("==")[0] for pin in held}
    assert {"cellxgene", "tornado", "waitress", "setuptools", "jupyter-core"} <= names
    assert not {"pytest", "jupyterhub", "jupyterlab", "scanpy"} & names


@pytest.mark.parametrize("name", ["galaxy-image.txt", "galaxy-tool-lock.txt"])
def test_a_lock_is_complete_and_names_no_host(name: str) -> None:
    lock = (REQUIREMENTS / name).read_text()
    assert "://" not in lock
    assert not re.findall(r"^--", lock, re.MULTILINE)
    assert lock.count("--hash=sha256:") >= len(pins(name)) > 100


def test_the_build_is_given_what_the_package_is_made_of_and_nothing_else() -> None:
    first, *others = [
        line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    let_in = {line[1:] for line in others if line.startswith("!")}
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    wanted = {"cxg_proxy", "setup.cfg", "setup.py", "pyproject.toml", "README.md"}
    wanted |= {setup["metadata"]["license_files"]}
    copied = {source for source in re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE) if source != "."}
    assert let_in == wanted | copied
    assert all((CHECKOUT / name).exists() for name in let_in)


def test_the_image_runs_as_nobody_in_particular_and_tells_whether_it_is_well() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    (user,) = re.findall(r"^USER (\d+):\d+$", last, re.MULTILINE)
    assert int(user) > 0
    assert "http://127.0.0.1:8888/api/health" in last
    assert "HOME=/tmp" in last
    assert not re.findall(r"ENTRYPOINT", last)  # Galaxy starts a shell of its own in it
    assert len(re.findall(r"^FROM docker\.io/library/python:3\.11-slim", DOCKERFILE, re.MULTILINE)) == 2


def test_the_configuration_for_nginx_defines_what_it_uses() -> None:
    (block,) = re.findall(r"^```nginx\n(.+?)^```", (FOLDER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    defined = set(re.findall(r"^map \$\w+ \$(\w+)", block, re.MULTILINE))
    assert set(re.findall(r"\$(\w+)", block)) - defined <= {"http_upgrade", "http_host", "scheme"}  # nginx's own
    assert block.count("{") == block.count("}")


def test_the_tool_shed_gets_no_more_than_the_tool() -> None:
    shed = (FOLDER / ".shed.yml").read_text()
    excluded = set(re.findall(r"^  - (\S+)$", shed.partition("exclude:")[2], re.MULTILINE))
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    uploaded = {name for name in files if not any(fnmatch.fnmatch(name, each) for each in excluded)} - {".shed.yml"}
    assert {"macros.xml", "interactivetool_cxg_proxy.xml", "static/images/cxg_proxy.png"} <= uploaded
    assert sum((FOLDER / name).stat().st_size for name in uploaded) < 500_000
    assert "Dockerfile" not in uploaded
