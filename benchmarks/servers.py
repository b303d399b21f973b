"""The servers that are compared: an unchanged `cellxgene launch`, and a gateway as a host starts it."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import data
import memory
from browser import Browser, NotServed
from gateways import SAME_SITE, Gateway, UnixConnection, running_gateway
from viewer_fixtures import LAUNCH, OFFLINE

PATIENCE = 900.0  # seconds for the slowest single reply
START_SECONDS = 120.0


@functools.cache
def offered() -> str:
    """Return the help of this version of cxg-proxy, with all of its options."""
    return run("--help-all").stdout


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `cxg-proxy` with these arguments to its end; raises NotServed with its last output if it fails."""
    command = [sys.executable, "-m", "cxg_proxy", *map(str, words)]
    # Not in the folder of a checkout, where Python would find its package before the installed one.
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotServed(f"cxg-proxy {words[0]}: {(done.stderr or done.stdout)[-300:]}")
    return done


def has(option: str) -> bool:
    """Whether the gateway has an option."""
    return f".{option}=" in offered()


@dataclass
class Plain:
    """A running `cellxgene launch`."""

    pid: int
    port: int
    begun: float  # when it was started, by `time.perf_counter`

    viewer = "/"

    def browser(self) -> AbstractContextManager[Browser]:
        return closing(Browser(lambda: http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)))

    def pids(self) -> list[int]:
        return memory.tree(self.pid)


@contextlib.contextmanager
def plain(dataset: Path, home: Path) -> Iterator[Plain]:
    """Start cellxgene with its file in the page cache, and wait until it accepts connections."""
    data.warm(dataset)
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    begun = time.perf_counter()
    with (home / "plain.log").open("wb") as log:
        process = subprocess.Popen(
            [*LAUNCH, "--port", str(port), str(dataset)],
            cwd=home,
            env={**os.environ, **OFFLINE, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        while not _accepts(port):
            if process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
                raise NotServed(f"cellxgene did not start: {(home / 'plain.log').read_text()[-500:]}")
            time.sleep(0.005)
        yield Plain(process.pid, port, begun)
    finally:
        process.kill()
        process.wait()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Ours:
    """One user's running gateway."""

    def __init__(self, gateway: Gateway, dataset: Path) -> None:
        self.gateway = gateway
        self.viewer = f"/view/data/{quote(dataset.name)}/"

    def browser(self) -> AbstractContextManager[Browser]:
        return closing(Browser(lambda: UnixConnection(self.gateway.path, PATIENCE)))

    def worker(self) -> AbstractContextManager[Browser]:
        """Return a browser that talks to the worker directly, past the gateway; its viewer is at `/`."""
        path = str(self._socket())
        return closing(Browser(lambda: UnixConnection(path, PATIENCE)))

    def worker_pid(self) -> int:
        """Return the process that serves the one open dataset."""
        path, found = str(self._socket()), []
        for each in self.gateway.workers():
            with contextlib.suppress(psutil.Error):
                found += [each] if any(one.laddr == path for one in each.net_connections("unix")) else []
        if not found:
            raise NotServed("the worker was not found")
        return int(max(found, key=lambda each: each.create_time()).pid)  # its parent may hold the socket too

    def _socket(self) -> Path:
        for each in self.gateway.instances():
            for path in Path(self.gateway.path).parent.rglob(f"{each['id']}.sock"):
                return path
        raise NotServed("the worker's socket was not found")

    def pids(self) -> list[int]:
        return memory.tree(self.gateway.process.pid)

    def library(self) -> None:
        """Open the list of datasets, as every user does first, and wait until the machine is idle again."""
        self.gateway.get("/", Accept="text/html")
        self.settle()

    def settle(self, quiet: float = 0.7) -> None:
        """Wait until no process below the gateway computes any more, so that all preparation is done."""
        end, seen, since = time.monotonic() + PATIENCE, -1.0, time.monotonic()
        while time.monotonic() < end and time.monotonic() - since < quiet:
            now = self._computed()
            if abs(now - seen) > 0.02:
                seen, since = now, time.monotonic()
            time.sleep(0.05)

    def _computed(self) -> float:
        """Return the seconds of CPU time that all processes of the gateway have used."""
        used = 0.0
        for pid in self.pids():
            with contextlib.suppress(psutil.Error):
                used += sum(psutil.Process(pid).cpu_times()[:2])
        return used

    def close(self) -> None:
        """Close the viewer only."""
        for each in self.gateway.instances():
            self.gateway.post(f"/api/instances/{each['id']}/stop", {"_xsrf": self.gateway.xsrf()}, **SAME_SITE)
        end = time.monotonic() + 20
        while self.gateway.instances() and time.monotonic() < end:
            time.sleep(0.02)


@contextlib.contextmanager
def ours(dataset: Path, home: Path, *, shared: Path | None = None) -> Iterator[Ours]:
    """Start a gateway whose library has this one dataset; its home, labels and cache are below `home`.

    The file is in the page cache, as it is for plain cellxgene.
    """
    data.warm(dataset)
    library = home / "data"
    library.mkdir(parents=True, exist_ok=True)
    link = library / dataset.name
    if not link.exists():
        link.symlink_to(dataset)
    options = [f"--Gateway.shared_cache={shared}"] if shared and has("shared_cache") else []
    if "PYTHONPATH" in os.environ:  # then a checkout is measured, so the viewers must use it too
        options += [f"--Gateway.viewer_environment=PYTHONPATH={os.environ['PYTHONPATH']}"]
    with running_gateway(home, *options, python=sys.executable, HOME=str(home)) as gateway:
        yield Ours(gateway, link)


def forget_stores(home: Path) -> None:
    """Remove the stores of datasets, but keep compiled code."""
    shutil.rmtree(home / "cache" / "stores", ignore_errors=True)
