"""The parent of the workers: it has imported all that a worker needs, and forks one for each dataset it is asked for.

The gateway is at the other end of one socket, which carries packets of JSON:

- `{"number": 7, "arguments": […], "cwd": …, "environment": {…}}` with three descriptors (standard input, output and
  error) asks for a worker; the reply is `{"number": 7, "pid": …}` with a descriptor of the new process, or
  `{"number": 7, "refused": reason}`.
- `{"number": 7, "status": -9}` tells that it has ended. It is not reaped, so that its number belongs to nobody else,
  before the gateway says `{"free": 7}`.
- The first packet of all is `{"version": …}`, the second `{"ready": true}`: everything is imported.

A worker is a process of its own from the fork on: whatever happens to it happens neither to its parent nor to its
siblings. The parent itself runs no computation, opens no dataset and has no second thread: neither HDF5 nor a pool of
threads would survive a fork.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import select
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cxg_proxy

_MAX_REQUEST_BYTES = 1 << 20  # bytes; a packet is shorter than the socket's buffer
# Imported by a worker, by us or by cellxgene, only when the first dataset is read or the first request answered.
_LATER = (
    "cxg_proxy.viewer.cellxgene.application",
    "cxg_proxy.viewer.cellxgene.request_limits",
    "cxg_proxy.viewer.dataset.load",
    "cxg_proxy.viewer.serve",
    "fsspec.implementations.local",
    "waitress.channel",
    "waitress.server",
)


def load() -> None:
    """Import all that a worker imports."""
    # cellxgene 1.3 calls what today's anndata means to remove: nothing a reader of the log can do about.
    warnings.simplefilter("ignore", FutureWarning)
    for name in _LATER:
        import_module(name)


def compiled() -> Iterator[None]:
    """Have the statistics' machine code loaded, or compiled where it is kept nowhere yet; one by one."""
    from cxg_proxy.viewer.compute.kernels import compiling  # noqa: PLC0415 - heavy: the first word must be out before

    yield from compiling()


def preload(
    control: int,
    work: Callable[[Sequence[str]], int],
    first: Callable[[], None] = load,
    then: Callable[[], Iterator[None]] = compiled,
) -> int:
    """Fork workers as told by the gateway at the other end of the socket `control`, until it has gone.

    `work` is what a worker runs with its arguments; `first` is done before any worker is forked, the steps of `then`
    while none is asked for. Returns the exit status: the parent's, and in each worker its own.
    """
    show(["preload"])
    gateway = socket.socket(fileno=control)
    # A second thread would be alive in the parent only. OpenBLAS starts its own as soon as numpy is imported; what is
    # heavy here (statistics) has threads of its own and needs none of them.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    gc.disable()  # a collection writes to each object it looks at, and what is written to is not shared any more
    try:
        _tell(gateway, {"version": cxg_proxy.__version__})
        first()
        order = _Parent(gateway, then()).run()
    except (BrokenPipeError, ConnectionResetError):  # the gateway has gone
        return 0
    if order is None:
        return 0
    gc.enable()
    return work(order.arguments)


@functools.cache
def _packages() -> list[Path]:
    """The folders of our own modules; one that comes later changes the folder above it."""
    return [module.parent for module in Path(cxg_proxy.__file__).parent.rglob("__init__.py")]


def _surroundings() -> list[tuple[str, int]]:
    """What changes when packages are installed, upgraded or removed: what is imported later would not fit then."""
    folders = [Path(name) for name in sys.path if os.path.isdir(name) and not os.path.samefile(name, ".")]
    return [(str(folder), folder.stat().st_mtime_ns) for folder in (*_packages(), *folders)]


@dataclass(frozen=True)
class ForkRequest:
    """A worker that is asked for."""

    number: int
    arguments: list[str]
    cwd: str
    environment: dict[str, str]


@dataclass
class _Worker:
    """A worker that was forked; `descriptor` is readable when it has ended."""

    number: int
    pid: int
    descriptor: int
    ended: bool = False
    freed: bool = False  # the gateway does not need its number any more


class _Parent:
    """Waits for orders and for the ends of workers."""

    def __init__(self, gateway: socket.socket, steps: Iterator[None]):
        self._gateway, self._surroundings = gateway, _surroundings()
        self._steps: Iterator[None] | None = steps
        self._poll = select.poll()
        self._poll.register(gateway, select.POLLIN)
        self._workers: dict[int, _Worker] = {}  # by number

    def run(self) -> ForkRequest | None:
        """Work until the gateway has gone; in a worker that was forked meanwhile, returns what it is to do."""
        _tell(self._gateway, {"ready": True})
        while True:
            # What a click waits for goes before what is done in advance.
            ready = [descriptor for descriptor, _ in self._poll.poll(0 if self._steps else None)]
            for worker in [each for each in self._workers.values() if each.descriptor in ready]:
                self._tell_end(worker)
            if self._gateway.fileno() in ready:
                packet, descriptors, *_ = socket.recv_fds(self._gateway, _MAX_REQUEST_BYTES, 3)
                if not packet:
                    return None
                if (order := self._obey(json.loads(packet), descriptors)) is not None:
                    return order
            elif not ready:
                self._step()

    def _step(self) -> None:
        try:
            next(self._steps or iter(()))
        except StopIteration:
            self._steps = None

    def _obey(self, said: dict[str, Any], descriptors: list[int]) -> ForkRequest | None:
        """Do what a packet says; an order comes back in the worker that was forked for it."""
        if "free" in said:
            if (worker := self._workers.get(said["free"])) is not None:
                worker.freed = True
                self._reap(worker)
            return None
        order = ForkRequest(**said)
        return order if self._fork(order, descriptors) else None

    def _fork(self, order: ForkRequest, descriptors: list[int]) -> bool:
        """Fork a worker; True in the worker."""
        pid, reason = -1, self._unfit() if len(descriptors) == 3 else "it has too many files open"
        if reason is None:
            gc.freeze()  # as above: what a worker collects later is only what it made itself
            sys.stderr.flush()
            try:
                pid = os.fork()
            except OSError as error:
                reason = str(error)
        if pid == 0:
            self._gateway.detach()
            _settle(order, descriptors)
            return True
        for each in descriptors:
            os.close(each)
        if reason is None:
            worker = self._workers[order.number] = _Worker(order.number, pid, os.pidfd_open(pid))
            self._poll.register(worker.descriptor, select.POLLIN)
            _tell(self._gateway, {"number": order.number, "pid": pid}, worker.descriptor)
        else:
            _tell(self._gateway, {"number": order.number, "refused": reason})
        return False

    def _unfit(self) -> str | None:
        """Why no worker of this parent would be what a fresh one is."""
        if _surroundings() != self._surroundings:
            return "packages have been installed or removed meanwhile"
        threads = len(os.listdir("/proc/self/task"))
        return f"a library has started {threads - 1} threads" if threads > 1 else None

    def _tell_end(self, worker: _Worker) -> None:
        end = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # still unreaped
        assert end is not None
        worker.ended = True
        self._poll.unregister(worker.descriptor)
        exited = end.si_code == os.CLD_EXITED
        _tell(self._gateway, {"number": worker.number, "status": end.si_status if exited else -end.si_status})
        self._reap(worker)

    def _reap(self, worker: _Worker) -> None:
        if worker.ended and worker.freed:
            os.waitpid(worker.pid, 0)
            os.close(worker.descriptor)
            del self._workers[worker.number]


def _tell(gateway: socket.socket, what: dict[str, Any], *descriptors: int) -> None:
    socket.send_fds(gateway, [json.dumps(what).encode()], descriptors)


def _settle(order: ForkRequest, descriptors: list[int]) -> None:
    """Become, after the fork, what a process is that was started with this order: nothing of the parent stays open."""
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:  # it was that of the listing itself
                continue
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.cwd)
    show(order.arguments)
    if "numpy" in sys.modules:  # Python's own generator of random numbers has been seeded anew, numpy's has not
        sys.modules["numpy"].random.seed()


def show(arguments: Sequence[str]) -> None:
    """Show these arguments of ours; where the system does not allow it, what it shows stays as it is."""
    try:
        with open("/proc/self/stat", "rb") as stat, open("/proc/self/mem", "r+b", buffering=0) as memory:
            # proc(5): fields 48 and 49 are where the command line begins and ends; behind the name, the first is 3.
            begin, end = map(int, stat.read().rpartition(b")")[2].split()[45:47])
            memory.seek(begin)
            memory.write(_padded(arguments, end - begin))
    except (OSError, ValueError, IndexError):
        return


def _padded(arguments: Sequence[str], room: int) -> bytes:
    """The arguments in exactly `room` bytes; where they are too long, their end stays: it names the dataset."""
    start, rest = (
        os.fsencode(" ".join([sys.executable, "-m", "cxg_proxy.viewer", *arguments[:1]])),
        os.fsencode(" ".join(["", *arguments[1:]])),
    )
    start, rest = (text.replace(b"\0", b" ") for text in (start, rest))
    free = room - 2 - len(start)
    if free < 0:
        raise ValueError("no room")
    if len(rest) > free:
        rest = rest[len(rest) - free :]
    # A last byte that is not 0 tells the system that this is one text, which ends at the first 0.
    return (start + rest).ljust(room - 1, b"\0") + b"."
