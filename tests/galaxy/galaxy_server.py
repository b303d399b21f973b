"""A real Galaxy and the proxy of its interactive tools, each running as long as a block lasts."""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from galaxy_files import Ports, write_settings
from parts import Parts
from podman import Podman
from progress import say, step

PREFIX = "/interactivetool/ep"


@dataclass
class Galaxy:
    """A running Galaxy: where it is, and who may do everything there."""

    url: str
    proxy: str
    folder: Path
    engine: Podman
    key: str = field(repr=False)

    def log(self, lines: int = 40) -> str:
        """What Galaxy and its proxy said last, for a test that fails."""
        tails = [
            (self.folder / name).read_text(errors="replace").splitlines()[-lines:] for name in ("web.log", "proxy.log")
        ]
        return "\n".join(["--- Galaxy's log ends with:", *tails[0], "--- the proxy's with:", *tails[1]])

    def wait(self, condition: Callable[[], object], what: str, seconds: float) -> None:
        """Wait for what a Galaxy does in the background."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {seconds} s\n{self.log()}"
            time.sleep(0.1)


@contextlib.contextmanager
def running_galaxy(parts: Parts, engine: Podman, folder: Path) -> Iterator[Galaxy]:
    """Galaxy with the project's tools, and its proxy; at the end nothing of them runs."""
    ports = Ports(*free_ports(2))
    key = secrets.token_hex(16)
    binaries = parts.galaxy / "bin"
    settings = write_settings(folder, ports, key, engine.command, binaries / "galaxy-container-monitor")
    web = [binaries / "galaxy-web", "-c", settings, "-b", f"0.0.0.0:{ports.galaxy}"]
    proxy = [parts.node, parts.proxy / "node_modules/@galaxyproject/gx-it-proxy/lib/main.js", "--verbose"]
    proxy += ["--ip", "127.0.0.1", "--port", str(ports.proxy), "--sessions", str(folder / "map.sqlite")]
    proxy += ["--proxyPathPrefix", PREFIX]
    (folder / "map.sqlite").touch()  # the proxy does not start without one
    with _running(proxy, folder, "proxy") as forwards, _running(web, folder, "web") as serves:
        galaxy = Galaxy(f"http://localhost:{ports.galaxy}", f"http://localhost:{ports.proxy}", folder, engine, key)
        with step("starting Galaxy"):
            galaxy.wait(lambda: _answers(galaxy, serves, forwards), "Galaxy's start", 240)
        yield galaxy


def _answers(galaxy: Galaxy, *processes: subprocess.Popen[bytes]) -> bool:
    assert all(each.poll() is None for each in processes), galaxy.log()
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{galaxy.url}/api/version", timeout=5).status_code == 200
    return False


@contextlib.contextmanager
def _running(command: list[str | Path], folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server for as long as the block lasts, with everything it starts."""
    own = {"PATH": f"{Path(command[0]).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=0,  # a container's user, who is not Galaxy's, must be able to write into the job's folder
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes], patience: float = 30) -> None:
    everybody = []
    with contextlib.suppress(psutil.NoSuchProcess):
        everybody = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    if process.poll() is None:
        say(f"{process.args[0]} did not end by itself")  # type: ignore[index]
        process.kill()
        process.wait()
    for each in everybody:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(everybody, timeout=10)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as block:
        found = [block.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]
