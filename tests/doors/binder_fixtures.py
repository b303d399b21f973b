"""What a Binder service makes of this repository, without containers: the same files, run in the same order.

An environment of its own with the pinned requirements, a home that holds a copy of the repository, an ordinary user
(`nobody` when we are root), `postBuild`, and then `start` in front of the command that BinderHub gives.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import httpx
import psutil
from hub_fixtures import free_ports
from jupyter_fixtures import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]
IS_ROOT = os.getuid() == 0
BASE = "/user/cxg-proxy-cxg_proxy-0a1b2c/"
TOKEN = "tests-only"
NOT_COMMITTED = (".git", ".venv", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "node_modules")
MADE = ("library", ".prepared")  # by postBuild, in binder/
BINARIES = Path(sys.executable).parent
LEFT_TO_COMPILE = {"anndata", "jupyter_server", "jupyterlab", "pandas", "server", "tornado", "traitlets"}
# The registries' settings, the only thing of ours that the image's builder has too.
REGISTRIES = ("PIP_", "UV_", "npm_config_", "NODE_EXTRA_CA_CERTS", "SSL_CERT_", "http_proxy", "https_proxy", "no_proxy")


@dataclass
class Image:
    """A built image: the repository in a visitor's home, and the environment beside it."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)  # what took how long
    built: frozenset[Path] = frozenset()  # the files of its environment when it was finished

    @property
    def home(self) -> Path:
        return self.folder / "jovyan"

    @property
    def binder(self) -> Path:
        return self.home / "binder"

    @property
    def prefix(self) -> Path:
        return self.folder / "environment"

    def installed(self) -> frozenset[Path]:
        """The files of its environment."""
        return frozenset(each for each in self.prefix.rglob("*") if each.is_file())

    def environment(self, **more: str) -> dict[str, str]:
        """The environment variables of a container, none of ours among them."""
        path = f"{self.prefix}/bin:{self.folder}/programs:/usr/local/bin:/usr/bin:/bin"
        own = {"HOME": str(self.home), "REPO_DIR": str(self.home), "PATH": path, "LANG": "C.UTF-8"}
        return {**own, "PYTHONUNBUFFERED": "1", "USER": "jovyan", "TMPDIR": str(self.folder / "tmp"), **more}

    def run(self, *command: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as the visitor; what it printed is shown if it fails."""
        done = subprocess.run(
            command, cwd=cwd or self.home, env=self.environment(**more), capture_output=True, text=True, check=False,
            timeout=500, stdin=subprocess.DEVNULL, **visitor(),
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}"
        return done


def visitor() -> dict[str, Any]:
    """Arguments that let a process run as an ordinary user."""
    if not IS_ROOT:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def built_image() -> Iterator[Image]:
    """The image, for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="cxgt-binder-", dir="/tmp"))
    folder.chmod(0o755)  # the visitor's files are in it
    image = Image(folder)
    try:
        _copy_repository(image)
        with _timed(image, "requirements"):
            _install_requirements(image)
            _take_byte_code(image)
        if IS_ROOT:
            nobody = pwd.getpwnam("nobody")
            subprocess.run(["chown", "-R", f"{nobody.pw_uid}:{nobody.pw_gid}", *folder.iterdir()], check=True)
        with _timed(image, "postBuild"):
            image.run("./binder/postBuild", **registries())
        image.built = image.installed()
        yield image
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _timed(image: Image, what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    image.seconds[what] = time.monotonic() - begin


def registries() -> dict[str, str]:
    """How the packages of PyPI and npm are reached from here."""
    return {name: value for name, value in os.environ.items() if name.startswith(REGISTRIES)}


def _copy_repository(image: Image) -> None:
    """As a clone would hold it, with what is not committed yet."""
    shutil.copytree(CHECKOUT, image.home, ignore=shutil.ignore_patterns(*NOT_COMMITTED), symlinks=True)
    for name in MADE:
        shutil.rmtree(image.binder / name, ignore_errors=True)
    image.home.chmod(0o700)
    for name in ("programs", "tmp"):
        (image.folder / name).mkdir()
    for name in ("node", "npm", "npx"):  # repo2docker's own environment has them
        if found := shutil.which(name, path=f"{BINARIES}:{os.environ['PATH']}"):
            (image.folder / "programs" / name).symlink_to(found)


def _install_requirements(image: Image) -> None:
    """Exactly what is pinned and nothing else, into an environment that has pip, as repo2docker's has."""
    uv, python = str(BINARIES / "uv"), str(image.prefix / "bin" / "python")
    install = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-deps", "--link-mode=copy"]
    for command in (
        [uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(image.prefix)],
        [*install, "-r", str(image.binder / "requirements.txt")],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=500,
            env={**os.environ, "UV_HTTP_TIMEOUT": "300", "UV_PYTHON_DOWNLOADS": "never"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]


def _take_byte_code(image: Image) -> None:
    """Most byte code is here already: Python makes the same of the same file, and to make it takes a minute.

    That of what a visitor's server runs is left to `postBuild`, without which it would be compiled for the visitor.
    """
    ours, theirs = (Path(sysconfig.get_path("purelib", vars=each)) for each in ({}, {"base": str(image.prefix)}))
    for file in theirs.rglob("*.py"):
        name = file.relative_to(theirs)
        twin, made = ours / name, Path(cache_from_source(str(ours / name)))
        if name.parts[0] in LEFT_TO_COMPILE or not made.exists() or twin.read_bytes() != file.read_bytes():
            continue
        code, seen = made.read_bytes(), file.stat()
        if code[4:8] == bytes(4):  # it is valid for a file of this age and size
            into = Path(cache_from_source(str(file)))
            into.parent.mkdir(exist_ok=True)
            into.write_bytes(code[:8] + struct.pack("<II", int(seen.st_mtime), seen.st_size) + code[16:])


# --- a visitor's server --------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A visitor's server, as BinderHub starts it."""

    image: Image
    root: str  # the address of the server's machine
    log: Path
    process: subprocess.Popen[bytes]

    def link(self, urlpath: str) -> str:
        """Where BinderHub's page leads when the server is there: the path below it, with the token."""
        return f"{self.root}{BASE}{urlpath}{'&' if '?' in urlpath else '?'}token={TOKEN}"

    def get(self, address: str) -> httpx.Response:
        headers = {"Authorization": f"token {TOKEN}"}
        return httpx.get(f"{self.root}{BASE}{address}", headers=headers, timeout=60, trust_env=False)


@contextlib.contextmanager
def visitors_server(image: Image) -> Iterator[Server]:
    """The image's server for one visitor, from the moment it answers."""
    (port,) = free_ports(1)
    # As binderhub/binderspawner_mixin.py has it, except that it listens on this machine only.
    said = [f"base_url={BASE}", f"token={TOKEN}", "trust_xheaders=True", "allow_origin=*", "allow_origin_pat=.*"]
    words = [f"--{app}.{each}" for app in ("NotebookApp", "ServerApp") for each in said]
    command = [str(image.binder / "start"), "jupyter-lab", "--ip=127.0.0.1", f"--port={port}", *words]
    own = {
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_SERVICE_PREFIX": BASE,
        "BINDER_LAUNCH_HOST": "https://binder.example.org/",
        "BINDER_REQUEST": "v2/gh/cxg-proxy/cxg_proxy/HEAD",
    }
    log = image.folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=image.home, env=image.environment(**own), stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, **visitor(),
        )  # fmt: skip
    server = Server(image, f"http://127.0.0.1:{port}", log, process)
    try:
        wait_until(lambda: _answers(server), "the visitor's server", 60)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
    wait_until(lambda: not _left(image), "the end of the gateway and its viewers")
    assert not [*(image.folder / "tmp").glob("*cxg-proxy-*")], "a folder of sockets was left behind"


def _left(image: Image) -> list[list[str]]:
    """The command lines of what still runs of an image."""
    found = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
    return [words for words in found if any(str(image.folder) in word for word in words)]


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, server.log.read_text(errors="replace")[-4000:]
    with contextlib.suppress(httpx.TransportError):
        return server.get("api").status_code == 200
    return False
