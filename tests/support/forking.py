"""Forking of programs from a parent that has imported their modules, as the gateway's own fork server does.

To import everything anew takes a gateway half a second and a worker two, hundreds of times in a run of the tests. Each
program is a process of its own all the same. A program that is started in an unusual way (by another Python, in its own
session, with another `PYTHONPATH`) is started afresh, and so is every program that a host starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from typing_extensions import Self

FORKER = Path(__file__).parents[1] / "workers" / "forker.py"
# The modules to import for each program: all that it imports itself before it does its work.
IMPORTED = {
    "cxg_proxy": ["cxg_proxy.gateway.app", "cxg_proxy.commands.annotations", "cxg_proxy.commands.prepare"],
    "cxg_proxy.viewer": [
        "cxg_proxy.viewer.cellxgene.application",
        "cxg_proxy.viewer.cellxgene.request_limits",
        "cxg_proxy.viewer.dataset.load",
        "cxg_proxy.viewer.serve",
        "cxg_proxy.viewer.compute.kernels",
        "fsspec.implementations.local",
        "waitress.channel",
        "waitress.server",
    ],
}
# Prefixes of variables that Python, the loader and libraries read when they start: after a fork it is too late.
AT_START = ("PYTHON", "LD_", "LANG", "LC_", "MALLOC_", "NUMBA_", "OPENBLAS_", "OMP_", "MKL_")


def at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that affect a start, except those with their usual values, such as UTF-8."""
    usual = {("LANG", "C.UTF-8"), ("PYTHONUNBUFFERED", "1")}
    return {name: value for name, value in environment.items() - usual if name.startswith(AT_START)}


USUAL = at_start(os.environ)


class Forked:
    """A forked process, with the part of the interface of `subprocess.Popen` that tests use."""

    def __init__(self, answers: socket.socket, pipes: Sequence[IO[bytes] | None]) -> None:
        self._answers = answers
        self.stdin, self.stdout, self.stderr = pipes
        self.returncode: int | None = None
        self.pid = int(self._read()["pid"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self.stdin, self.stdout, self.stderr):
            if each is not None:
                each.close()
        self.wait()

    def _read(self) -> dict[str, int]:
        packet = self._answers.recv(1 << 10)
        assert packet, "the parent of all has ended"
        said: dict[str, int] = json.loads(packet)
        return said

    def poll(self) -> int | None:
        """Return its exit status if it has ended, else None."""
        if self.returncode is None and select.select([self._answers], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return its exit status."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = self._read()["status"]
        self._answers.close()

    def send_signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Parent:
    """The parent process of all programs of one kind."""

    def __init__(self, module: str) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", FORKER, str(theirs.fileno()), *IMPORTED[module]]
        # OpenBLAS starts a second thread when it is loaded, which would not exist in the forked children.
        own = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **USUAL, "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self.process = subprocess.Popen(
                command, env=own, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )

    def fork(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> socket.socket:
        """Order a process; returns the socket on which the replies arrive."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.ours, [json.dumps(order).encode()], [*descriptors, theirs.fileno()])
        return ours

    def close(self) -> None:
        self.ours.close()
        self.process.wait()


_parents: dict[str, Parent] = {}


def close() -> None:
    """End the parents, and their remaining children."""
    while _parents:
        _parents.popitem()[1].close()


def children() -> set[int]:
    """Return the children of the tests, including forked ones, but without the parents that forked them."""
    ours = {each.process.pid for each in _parents.values()}
    return set[int]().union(_children(os.getpid()) - ours, *map(_children, ours))


def _children(pid: int) -> set[int]:
    """Return the children of a process; psutil would read a file of every process, and each test calls this twice."""
    lists = [Path(f"/proc/{pid}/task/{thread}/children") for thread in os.listdir(f"/proc/{pid}/task")]
    if not lists[0].exists():
        return {each.pid for each in psutil.Process(pid).children()}
    found: set[int] = set()
    for each in [*lists, *lists]:  # the kernel may skip a child while another one ends
        with contextlib.suppress(OSError):  # the thread has ended
            found |= set(map(int, each.read_text().split()))
    return found


def popen(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    **more: Any,
) -> subprocess.Popen[bytes] | Forked:
    """Start a program as `subprocess.Popen` does, but fork it from a parent if that makes no difference."""
    words = [os.fspath(word) for word in command]
    env = os.environ if env is None else env
    if more or words[:2] != [sys.executable, "-m"] or words[2] not in IMPORTED or at_start(env) != USUAL:
        return subprocess.Popen(words, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, **more)
    if words[2] not in _parents:
        _parents[words[2]] = Parent(words[2])
    order = {"module": words[2], "arguments": words[3:], "environment": dict(env), "cwd": str(cwd)}
    with contextlib.ExitStack() as block:
        theirs, ours = [], []
        for number, said in enumerate((stdin, stdout, stderr)):
            if said == subprocess.PIPE:
                pair = os.pipe()
                theirs.append(pair[number != 0])
                block.callback(os.close, theirs[-1])
                ours.append(os.fdopen(pair[number == 0], "wb" if number == 0 else "rb"))
            else:
                theirs.append(number if said is None else said if isinstance(said, int) else said.fileno())
                ours.append(None)
        return Forked(_parents[words[2]].fork(order, theirs), ours)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    seconds: float = 60,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end as `subprocess.run` does, and return its output."""
    with contextlib.ExitStack() as block:
        files = [block.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        process = popen(command, cwd=cwd, env=env, stdin=files[0], stdout=files[1], stderr=files[2])
        try:
            status = process.wait(seconds)
        finally:
            process.kill()
            process.wait()
        said = []
        for each in files[1:]:
            each.seek(0)
            said.append(each.read())
    return subprocess.CompletedProcess(list(command), status, *said)
