"""The fork server: it has imported all that a worker needs, and forks a worker for each dataset that is requested.

The gateway is at the other end of one socket, which carries packets of JSON:

- `{"number": 7, "arguments": […], "cwd": …, "environment": {…}}` with three descriptors (standard input, output and
  error) requests a worker; the reply is `{"number": 7, "pid": …}` with a descriptor of the new process, or
  `{"number": 7, "refused": reason}`.
- `{"number": 7, "status": -9}` reports that the worker has ended. The worker is not reaped before the gateway sends
  `{"free": 7}`, so that its process ID is not used again before.
- The first packet of all is `{"version": …}`, the second `{"ready": true}`: everything is imported.

A worker is a separate process from the fork on: a failure in it affects neither its parent nor its siblings. The parent
itself runs no computation, opens no dataset and has no second thread, since neither HDF5 nor a pool of threads would
survive a fork.
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

_MAX_REQUEST_BYTES = 1 << 20  # a packet is shorter than the socket's buffer
# A worker imports these, directly or through cellxgene, only when it reads its dataset or answers its first request.
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
    # cellxgene 1.3 calls functions that anndata plans to remove, and a reader of the log can do nothing about it.
    warnings.simplefilter("ignore", FutureWarning)
    for name in _LATER:
        import_module(name)


def compiled() -> Iterator[None]:
    """Load the machine code of the statistics, or compile it if it is not cached, yielding after each function."""
    from cxg_proxy.viewer.compute.kernels import compiling  # noqa: PLC0415 - heavy: the first packet must be sent before

    yield from compiling()


def preload(
    control: int,
    work: Callable[[Sequence[str]], int],
    first: Callable[[], None] = load,
    then: Callable[[], Iterator[None]] = compiled,
) -> int:
    """Fork workers as requested by the gateway at the other end of the socket `control`, until the gateway has gone.

    A worker calls `work` with its arguments. `first` is called before any worker is forked, and the steps of `then` are
    run while no worker is requested. Return the exit status, of the parent or, in a worker, of the worker.
    """
    show(["preload"])
    gateway = socket.socket(fileno=control)
    # A second thread would live in the parent only. OpenBLAS starts threads as soon as numpy is imported; the heavy
    # statistics have their own threads and do not need them.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    gc.disable()  # a collection writes to each object that it visits, and memory that is written to is no longer shared
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
    """Return the folders of this package's modules; a folder added later changes the folder above it."""
    return [module.parent for module in Path(cxg_proxy.__file__).parent.rglob("__init__.py")]


def _surroundings() -> list[tuple[str, int]]:
    """Return the folders that modules are imported from, with their modification times in nanoseconds.

    They change when packages are installed, upgraded or removed; modules imported later would then not fit.
    """
    folders = [Path(name) for name in sys.path if os.path.isdir(name) and not os.path.samefile(name, ".")]
    return [(str(folder), folder.stat().st_mtime_ns) for folder in (*_packages(), *folders)]


@dataclass(frozen=True)
class ForkRequest:
    """The gateway's request for a worker."""

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
    freed: bool = False  # the gateway does not need its process ID any more


class _Parent:
    """The parent of the workers, which waits for requests and for the ends of workers."""

    def __init__(self, gateway: socket.socket, steps: Iterator[None]):
        self._gateway, self._surroundings = gateway, _surroundings()
        self._steps: Iterator[None] | None = steps
        self._poll = select.poll()
        self._poll.register(gateway, select.POLLIN)
        self._workers: dict[int, _Worker] = {}  # by number

    def run(self) -> ForkRequest | None:
        """Run until the gateway has gone, and return None; in a forked worker, return its request."""
        _tell(self._gateway, {"ready": True})
        while True:
            # Requests, for which users wait, take precedence over work in advance.
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
        """Carry out a packet from the gateway; return the request in the worker that was forked for it, else None."""
        if "free" in said:
            if (worker := self._workers.get(said["free"])) is not None:
                worker.freed = True
                self._reap(worker)
            return None
        order = ForkRequest(**said)
        return order if self._fork(order, descriptors) else None

    def _fork(self, order: ForkRequest, descriptors: list[int]) -> bool:
        """Fork a worker; return True in the worker and False in the parent."""
        pid, reason = -1, self._unfit() if len(descriptors) == 3 else "it has too many files open"
        if reason is None:
            gc.freeze()  # a worker then collects only its own objects, and the others stay shared
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
        """Return why a worker forked now would differ from a newly started process, or None."""
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
    """Make the forked worker equal to a process started with this request, closing all descriptors of the parent."""
    os.setsid()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of the listing itself, already closed
                continue
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.cwd)
    show(order.arguments)
    if "numpy" in sys.modules:  # after a fork Python reseeds its own random numbers, but not numpy's
        sys.modules["numpy"].random.seed()


def show(arguments: Sequence[str]) -> None:
    """Show these arguments as the command line of this process, unless the system does not allow it."""
    try:
        with open("/proc/self/stat", "rb") as stat, open("/proc/self/mem", "r+b", buffering=0) as memory:
            # proc(5): fields 48 and 49 are where the command line begins and ends; the first after the name is field 3.
            begin, end = map(int, stat.read().rpartition(b")")[2].split()[45:47])
            memory.seek(begin)
            memory.write(_padded(arguments, end - begin))
    except (OSError, ValueError, IndexError):
        return


def _padded(arguments: Sequence[str], room: int) -> bytes:
    """Return the command line in exactly `room` bytes, without the beginning of the arguments if these are too long.

    The end names the dataset. Raises ValueError if there is no room even for the beginning of the command.
    """
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
    # If the last byte is not 0, Linux shows the text up to the first 0.
    return (start + rest).ljust(room - 1, b"\0") + b"."
