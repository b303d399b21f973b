"""One Galaxy for all these tests, its users, and a browser for each of them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_fixtures import a_browser, a_profile  # noqa: F401 - fixtures
from galaxy_client import User, new_user
from galaxy_files import ARTEFACTS, CHECKOUT, TOOLS, image_of_tool
from galaxy_server import Galaxy, running_galaxy
from parts import Parts
from parts import parts as installed_parts
from podman import Podman, podman
from progress import needed, step

BASE = "docker.io/library/python:3.11-slim"


@pytest.fixture(scope="session", autouse=True)
def _end_whole() -> Iterator[None]:
    """Asked to end, end everything that was started too, as after Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def parts() -> Iterator[Parts]:
    with contextlib.ExitStack() as block:
        with needed("what Galaxy is made of"):
            found = block.enter_context(installed_parts())
        yield found


@pytest.fixture(scope="session")
def engine(parts: Parts) -> Iterator[Podman]:
    """Podman with the project's own image."""
    with contextlib.ExitStack() as block:
        with needed("podman"):
            made = block.enter_context(podman(parts.containers))
            if not made.has(BASE):
                with step("making the base image"):
                    made.import_base(parts.base, BASE)
        with needed("the tool's image"), step("building the image of galaxy_ie/Dockerfile"):
            made.build(image_of_tool(), TOOLS / "Dockerfile", CHECKOUT)
        yield made


@pytest.fixture(scope="session")
def galaxy(parts: Parts, engine: Podman) -> Iterator[Galaxy]:
    """A Galaxy in a folder that every user of this machine can enter, as the containers' user must."""
    folder = Path(tempfile.mkdtemp(prefix="cxgt-galaxy-", dir="/tmp"))
    folder.chmod(0o755)
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    try:
        with contextlib.ExitStack() as block:
            with needed("Galaxy"):
                running = block.enter_context(running_galaxy(parts, engine, folder))
            yield running
    finally:
        for log in folder.glob("*.log"):
            shutil.copy(log, ARTEFACTS)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def ana(galaxy: Galaxy) -> User:
    return new_user(galaxy, "ana")


@pytest.fixture(scope="session")
def ben(galaxy: Galaxy) -> User:
    return new_user(galaxy, "ben")


@pytest.fixture(scope="session")
def cay(galaxy: Galaxy) -> User:
    return new_user(galaxy, "cay")


@pytest.fixture(scope="session")
def pbmc(ana: User) -> str:
    """A small real dataset in ana's history."""
    return ana.upload(TOOLS / "test-data" / "pbmc.h5ad")[0]


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """Galaxy outlives a test; what it leaves is looked for at its end."""
