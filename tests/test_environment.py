"""What `requirements/environment` chooses for a machine; the tests themselves run in what it has made."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from places import CHECKOUT

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act for other users")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the script reads; like every folder of these tests, nobody else can enter it."""
    shutil.copytree(CHECKOUT / "requirements", tmp_path / "checkout" / "requirements")
    tmp_path.chmod(0o700)
    return tmp_path / "checkout"


@pytest.fixture
def elsewhere(checkout: Path) -> Iterator[Path]:
    """Where .venv is put for that copy."""
    folder = Path(planned(checkout)["folder"])
    yield folder
    if folder.parent == Path("/var/tmp"):
        shutil.rmtree(folder, ignore_errors=True)


def run(checkout: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script of a checkout, with PYTHON only as it is said here."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHON"} | environment
    script = checkout / "requirements" / "environment"
    return subprocess.run([script, *options], env=own, capture_output=True, text=True, timeout=30, check=False)


def planned(checkout: Path, **environment: str) -> dict[str, str]:
    """What it would choose."""
    done = run(checkout, "--plan", **environment)
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@needs_root
def test_the_python_that_is_chosen_can_be_run_by_every_user(checkout: Path) -> None:
    python = planned(checkout)["python"]
    said = subprocess.run(
        [python, "-c", "import os, sys; print(os.getuid(), sys.version_info >= (3, 10))"],
        user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert said.stdout == f"{NOBODY} True\n"


@needs_root
def test_a_python_in_a_private_folder_is_passed_over_where_another_one_can_be_run(checkout: Path) -> None:
    private = checkout / "python3.12"
    shutil.copy(planned(checkout)["python"], private)
    assert planned(checkout, PATH=f"{checkout}:{os.environ['PATH']}")["python"] != str(private)
    done = run(checkout, "--plan", PYTHON=str(private))
    assert done.returncode == 1
    assert f"no usable Python at {private} was found" in done.stderr
    assert "not below a private folder" in done.stderr


@pytest.mark.parametrize("private", [True, False])
def test_what_is_made_anew_is_not_made_with_itself(checkout: Path, elsewhere: Path, short: Path, private: bool) -> None:
    if not private:
        short.chmod(0o755)
        checkout = shutil.copytree(checkout, short / "checkout")
    python, folder = planned(checkout)["python"], Path(planned(checkout)["folder"])
    assert private == (folder == elsewhere) or os.getuid() != 0
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python3.12").symlink_to(python)
    assert planned(checkout, PATH=f"{folder}/bin:{os.environ['PATH']}")["python"] == python


def test_without_a_usable_python_it_says_what_is_needed_and_loses_nothing(checkout: Path, elsewhere: Path) -> None:
    elsewhere.mkdir(parents=True, exist_ok=True)
    (elsewhere / "kept").touch()
    done = run(checkout, PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stderr.startswith("make: no usable Python at /bin/false was found. It must be 3.10 or newer")
    assert "make PYTHON=/path/to/python3" in done.stderr
    assert (elsewhere / "kept").exists()


@needs_root
def test_in_a_private_checkout_venv_is_a_link_to_where_others_can_run_it(checkout: Path, elsewhere: Path) -> None:
    (checkout / ".venv").mkdir()  # of a time when it was not private
    run(checkout, PYTHON="/bin/false")
    assert (checkout / ".venv").readlink() == elsewhere
    assert elsewhere.parent == Path("/var/tmp")
    assert elsewhere.stat().st_mode & 0o777 == 0o755


@needs_root
def test_in_an_open_checkout_venv_is_a_folder(checkout: Path, short: Path) -> None:
    short.chmod(0o755)
    shutil.copytree(checkout, short / "checkout")
    assert planned(short / "checkout")["folder"] == str(short / "checkout" / ".venv")


@pytest.mark.parametrize("there", [True, False])
def test_uv_installs_where_it_is_and_pip_elsewhere(checkout: Path, there: bool) -> None:
    python = planned(checkout)["python"]
    folders = [each for each in os.environ["PATH"].split(":") if not Path(each, "uv").exists()]
    if there:
        (checkout / "uv").write_text("#!/bin/sh\n")
        (checkout / "uv").chmod(0o755)
        folders.insert(0, str(checkout))
    chosen = planned(checkout, PYTHON=python, PATH=":".join(folders))
    assert chosen["installer"] == ("uv" if there else "pip")


def test_a_plan_changes_nothing(checkout: Path) -> None:
    before = sorted(checkout.rglob("*"))
    planned(checkout)
    assert sorted(checkout.rglob("*")) == before
