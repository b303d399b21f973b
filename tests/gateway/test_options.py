"""The options as people meet them: the whole help, configuration folders, several libraries, and none."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cxg_proxy.gateway import options
from cxg_proxy.gateway.options import aliases
from gateways import PAGE, Gateway, answers, viewer_python
from waiting import until_now

COMMAND = [sys.executable, "-m", "cxg_proxy"]
Start = Callable[..., AbstractContextManager[Gateway]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home with a dataset in it."""
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    (home / "project" / "mine.h5ad").write_bytes(b"")
    return home


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Of a user with that home, into which no configuration of this machine's user reaches."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_"))}
    return {**own, "HOME": str(home)}


@pytest.fixture
def start(home: Path, short: Path, environment: dict[str, str]) -> Start:
    """Start a gateway with nothing but the options of the test."""

    @contextlib.contextmanager
    def starting(*options: str, **more: str) -> Iterator[Gateway]:
        log, path = home.parent / "log", str(short / "s")
        command = [*COMMAND, f"--socket={path}", f"--viewer-python={viewer_python(short)}", *options]
        with log.open("wb") as out:
            process = subprocess.Popen(command, env={**environment, **more}, stdout=out, stderr=out, cwd=short)
        try:
            until_now(lambda: process.poll() is not None or answers(path))
            assert process.poll() is None, log.read_text()
            yield Gateway(process, path, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)

    return starting


def run(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], env=environment, cwd=environment["HOME"], capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip


def listed(gateway: Gateway, folder: str = "") -> list[str]:
    """The names of the datasets, once all folders have been read."""
    until_now(lambda: not gateway.get(f"/api/datasets?folder={folder}").json["scanning"])
    return [each["name"] for each in gateway.get(f"/api/datasets?folder={folder}").json["datasets"]]


def test_the_whole_help_explains_every_option_and_names_each_short_form(environment: dict[str, str]) -> None:
    said = run(environment, "--help-all")
    assert said.returncode == 0, said.stderr
    ours = options.Gateway.class_own_traits(config=True)
    assert len(ours) > 20
    text = re.sub(r"\s+", " ", said.stdout)
    for name, trait in ours.items():
        assert f"--Gateway.{name}=" in text
        assert re.sub(r"\s+", " ", trait.help) in text, name
    for short in aliases:
        assert f"--{short if isinstance(short, str) else short[-1]}=" in text
    assert "--read-only" in text


def test_files_in_jupyters_configuration_folders_are_read_and_the_command_line_wins(home: Path, start: Start) -> None:
    etc = home.parent / "etc"
    for folder in (etc, home / ".jupyter"):
        folder.mkdir()
    (etc / "cxg_proxy_config.py").write_text(f"c.Gateway.libraries = {{'atlas': {str(home / 'project')!r}}}\n")
    (home / ".jupyter" / "cxg_proxy_config.py").write_text("c.Gateway.title = 'Of my own'\n")
    with start(JUPYTER_CONFIG_PATH=str(etc)) as gateway:
        assert listed(gateway) == ["atlas/mine.h5ad"]
        assert "Of my own" in gateway.get("/", **PAGE).text
    with start("--title=Said now", JUPYTER_CONFIG_PATH=str(etc)) as gateway:
        assert listed(gateway) == ["atlas/mine.h5ad"]
        assert "Said now" in gateway.get("/", **PAGE).text


@pytest.mark.parametrize("joined", [True, False])
def test_library_can_be_said_twice(joined: bool, home: Path, start: Start) -> None:
    (home.parent / "atlas").mkdir()
    (home.parent / "atlas" / "lung.h5ad").write_bytes(b"")
    said = ["--library", f"atlas={home.parent / 'atlas'}", "--library", "mine=~/project"]
    if joined:
        said = [f"--library={each}" for each in said[1::2]]
    with start(*said) as gateway:
        assert listed(gateway, "atlas") == ["atlas/lung.h5ad"]
        assert listed(gateway, "mine") == ["mine/mine.h5ad"]
        roots = gateway.get("/api/datasets").json["roots"]
    assert roots == [["atlas", str(home.parent / "atlas")], ["mine", str(home / "project")]]


def test_without_a_library_the_home_is_shown(home: Path, start: Start) -> None:
    with start() as gateway:
        assert gateway.get("/api/datasets").json["roots"] == [["home", str(home)]]
        assert listed(gateway, "home/project") == ["home/project/mine.h5ad"]
        gateway.open("home/project/mine.h5ad")


def test_viewers_are_told_where_gene_expression_is_kept_and_how_much_of_it(home: Path, start: Start) -> None:
    def told(*options: str) -> dict[str, str]:
        with start("--cache=~/c", *options) as gateway:
            address = gateway.open("home/project/mine.h5ad")
            arguments = json.loads(gateway.get(address + "api").json["environment"]["ARGUMENTS"])
        return dict(itertools.pairwise(arguments))

    usual = told()
    assert usual["--cache"] == str(home / "c")
    assert usual["--build-memory"] == "1000000000"
    assert not {"--shared-cache", "--cache-limit"} & set(usual)
    chosen = told("--shared-cache=~/s", "--cache-limit=0", "--build-memory=5")
    assert (chosen["--shared-cache"], chosen["--cache-limit"], chosen["--build-memory"]) == (str(home / "s"), "0", "5")
