"""A real JupyterHub with configurable-http-proxy and four accounts, unix users of this machine when we are root."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from jupyter_fixtures import wait_until

from pbmc import write_pbmc

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent.parent / "jupyter_config" / "jupyterhub_config.py"
IS_ROOT = os.getuid() == 0
PREFIX = "cxgtest"
# Other runs on this machine have their own.
ANA, BEN, CAY, DAN = USERS = tuple(f"{PREFIX}-{os.getpid()}-{name}" for name in ("ana", "ben", "cay", "dan"))
PASSWORD = "only-for-these-tests"
DATASET = "demo/pbmc68k_reduced.h5ad"
# As the model configuration says it, for an account that gets only cellxgene.
ALONE = [
    *("jupyter-standaloneproxy", "--unix-socket=True", "--timeout=60", "--"),
    *("cxg-proxy", "--socket={unix_socket}", "--share-prefix=/hub/user-redirect/"),
]


@dataclass
class Hub:
    """A running hub: its address, its accounts' homes, and its programming interface."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]
    token: str = field(repr=False)

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the hub as its administrator."""
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, f"{self.url}hub/api/{path}", headers=headers, timeout=60, **options)

    def home(self, user: str) -> Path:
        return self.folder / "homes" / user

    def start_server(self, user: str) -> None:
        """Ask for a user's server; it comes up by itself."""
        self.api("POST", f"users/{user}")
        self.api("POST", f"users/{user}/server").raise_for_status()

    def wait_server(self, user: str) -> None:
        def ready() -> bool:
            return bool(self.api("GET", f"users/{user}").json()["servers"].get("", {}).get("ready"))

        wait_until(ready, f"{user}'s server", 90)

    def client(self, user: str) -> httpx.Client:
        """A program that holds a user's own token; its base is the hub's root."""
        made = self.api("POST", f"users/{user}/tokens", json={"note": "tests"})
        made.raise_for_status()
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"token {made.json()['token']}"}, timeout=90, trust_env=False
        )

    def processes(self) -> list[psutil.Process]:
        """The hub, its proxy, all servers, gateways and workers."""
        hub = psutil.Process(self.process.pid)
        return [hub, *hub.children(recursive=True)]

    def gateway(self, user: str) -> psutil.Process:
        """A user's gateway."""
        found = [each for each in self.processes() if "cxg_proxy.__main__" in " ".join(_command(each))]
        mine = [each for each in found if each.environ().get("JUPYTERHUB_USER") == user]
        assert len(mine) == 1, [_command(each) for each in found]
        return mine[0]

    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does anything."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _command(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub for as long as the block lasts; then it, its servers, its accounts and its files are gone."""
    folder = Path(tempfile.mkdtemp(prefix="cxgt-hub-", dir="/tmp"))
    folder.chmod(0o755)  # the accounts' homes are private, the way to them is not
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    try:
        with _accounts(folder / "homes") as uids:
            _library(folder)
            token, ports = secrets.token_hex(16), free_ports(3)
            said = {
                "model": str(MODEL),
                "ports": ports,
                "password": PASSWORD,
                "users": USERS,
                "unix_users": IS_ROOT,
                "homes": str(folder / "homes"),
                "environment": {"JUPYTER_CONFIG_PATH": str(folder / "etc"), "TMPDIR": str(folder / "tmp")},
                "token": token,
                "alone": CAY,
                "alone_command": ALONE,
            }
            process = _start(folder, said)
            hub = Hub(f"http://127.0.0.1:{ports[0]}/", folder, process, token)
            try:
                wait_until(lambda: _healthy(hub), "the hub", 90)
                yield hub
            finally:
                _end(hub)
            # The system's own folder for all is full of others' folders, which come and go.
            left = [each for place in (folder / "tmp", Path("/tmp")) for each in place.glob("*cxg-proxy-*")]
            left = [path for path in left if _owner(path) in uids and (IS_ROOT or path.is_relative_to(folder))]
            assert not left, f"left behind: {left}"
    finally:
        shutil.rmtree(folder)


def _owner(path: Path) -> int | None:
    """Whose it is, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_uid
    return None


def _start(folder: Path, said: dict[str, Any]) -> subprocess.Popen[bytes]:
    binaries = Path(sys.executable).parent
    own = {"HUB_TEST": json.dumps(said), "PATH": f"{binaries}:{os.environ['PATH']}"}
    with (folder / "hub.log").open("wb") as log:
        return subprocess.Popen(
            [str(binaries / "jupyterhub"), f"--config={HERE / 'hub_config.py'}"],
            cwd=folder,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _healthy(hub: Hub) -> bool:
    assert hub.process.poll() is None, hub.log()
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{hub.url}hub/health", timeout=5).status_code == 200
    return False


def _end(hub: Hub) -> None:
    everybody = hub.processes() if hub.process.poll() is None else []
    hub.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        hub.process.wait(30)
    for each in everybody:
        if "configurable-http-proxy" in " ".join(_command(each)):
            each.kill()  # it waits for its clients' idle connections, and the hub does not wait for it
    left = list(everybody)
    deadline = time.monotonic() + 15  # each server gives its own processes some seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [each for each in left if is_alive(each)]
    said = [_command(each) for each in left]
    for each in left:
        each.kill()
    hub.process.wait()
    assert not left, f"still running after the hub's end: {said}\n{hub.log()[-3000:]}"


def _library(folder: Path) -> None:
    """A shared folder with a real dataset, and the configuration file that names it."""
    (folder / "library").mkdir()
    write_pbmc(folder / "library" / DATASET[5:])
    (folder / "etc").mkdir()
    config = f"c = get_config()\nc.Gateway.libraries = {{'demo': {str(folder / 'library')!r}}}\n"
    (folder / "etc" / "cxg_proxy_config.py").write_text(config)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as block:
        found = [block.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


@contextlib.contextmanager
def _accounts(homes: Path) -> Iterator[set[int]]:
    """The accounts' numbers: of the machine when we are root, else only the hub knows them."""
    homes.mkdir()
    if not IS_ROOT:
        yield {os.getuid()}
        return
    _remove_accounts(each for each in _ours() if not psutil.pid_exists(int(each.split("-")[1])))  # of runs cut off
    try:
        for user in USERS:
            home = homes / user
            subprocess.run(
                ["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/bash", "--user-group", user],
                check=True,
            )
            home.chmod(0o700)
        yield {pwd.getpwnam(user).pw_uid for user in USERS}
    finally:
        _remove_accounts(USERS)


def _ours() -> list[str]:
    """The accounts of all runs."""
    return [each.pw_name for each in pwd.getpwall() if re.fullmatch(rf"{PREFIX}-\d+-[a-z]+", each.pw_name)]


def _remove_accounts(users: Iterable[str]) -> None:
    for user in users:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(user)
            subprocess.run(["userdel", "--force", user], check=True, capture_output=True)


def run_as(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as another unix user."""
    account = pwd.getpwnam(user)
    return subprocess.run(
        command, user=account.pw_uid, group=account.pw_gid, extra_groups=[], capture_output=True, text=True, timeout=30,
        cwd="/", check=False,
    )  # fmt: skip
