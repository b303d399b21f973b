"""The worker's life: say `starting`, load, listen, say `ready`, and leave when the leash is cut or TERM comes."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxg_proxy import __version__
from cxg_proxy.annotations import LIMIT, display_name
from cxg_proxy.errors import CannotListen, NotEnoughMemory, Problem, ViewerMissing
from cxg_proxy.progress import Phase, Step

from . import child, options, reading

_PATIENCE_SECONDS = 1.0
_ROOM_BYTES = 32 * 1024**2


@dataclass(frozen=True)
class Order:
    """What the gateway asks for."""

    dataset: str
    socket: str
    labels: Path
    options: dict[str, Any]
    read_only: bool = False
    memory_limit: int | None = None  # bytes
    threads: int = 4
    history_limit: int = LIMIT  # bytes


def serve(order: Order) -> int:
    """Serve one dataset until told to leave; returns the exit status."""
    say = child.channel()
    life = _Life()

    def tell(step: Step) -> None:
        say(step.line())

    tell(Step(Phase.STARTING, version=__version__))
    child.log_to_stderr()
    # cellxgene 1.3 calls what today's anndata means to remove: nothing a reader of the log can do about.
    warnings.simplefilter("ignore", FutureWarning)
    server = child.outcome(lambda: _start(order, tell), order.dataset)
    if isinstance(server, Problem):
        tell(Step(Phase.FAILED, problem=server))
        return 1
    tell(Step(Phase.READY))
    life.run(server)
    return 0


def _limit_memory(limit: int | None) -> None:
    if limit is None:
        return
    if limit < _memory_held() + _ROOM_BYTES:
        raise MemoryError  # HDF5 would crash at its first allocation instead of refusing it
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _memory_held() -> int:
    """What counts against the limit already, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:
            held = next((line for line in status if line.startswith(b"VmData:")), b"VmData: 0")
    except OSError:
        return 0
    return int(held.split()[1]) * 1024


def _start(order: Order, tell: Callable[[Step], None]) -> Any:
    """Load the dataset and listen; what needs no heavy import is checked before them."""
    tell(Step(Phase.LOADING, done=0.0))
    dataset = os.path.abspath(order.dataset)
    reading.look(dataset)
    try:
        chosen = options.gather(dataset, order.options)
        load = _loader()
        # Not before the imports: without memory, the library of linear algebra waits for ever while it is loaded.
        _limit_memory(order.memory_limit)
        application = load(
            dataset,
            order.labels,
            chosen,
            read_only=order.read_only,
            history_limit=order.history_limit,
            threads=order.threads,
            report=lambda done: tell(Step(Phase.LOADING, done=done)),
        )
    except (MemoryError, NotEnoughMemory) as error:
        detail = f"the limit is {order.memory_limit / 2**20:,.0f} MiB" if order.memory_limit else ""
        raise NotEnoughMemory(display_name(dataset), detail=detail) from error
    return _listen(order, application)


def _loader() -> Callable[..., Any]:
    try:
        from .application import load  # noqa: PLC0415 - heavy, and perhaps not installed
    except ImportError as error:
        raise ViewerMissing(sys.executable, detail=str(error)) from error
    return load


def _listen(order: Order, application: Any) -> Any:
    from waitress.channel import HTTPChannel  # noqa: PLC0415 - it may be missing, and `starting` must be out before
    from waitress.server import create_server  # noqa: PLC0415

    from .limits import BODY_BYTES, Parser  # noqa: PLC0415

    class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
        parser_class = Parser

    never = 2**62  # bodies and replies are bounded; on disk, a full disk would break them
    try:
        server = create_server(
            application,
            unix_socket=order.socket,
            unix_socket_perms="600",
            threads=order.threads,
            ident=None,
            max_request_body_size=BODY_BYTES + 1,
            inbuf_overflow=never,
            outbuf_overflow=never,
        )
    except OSError as error:
        raise CannotListen(order.socket, detail=error.strerror or str(error)) from error
    server.channel_class = Channel
    return server


class _Life:
    """Ends the worker: at once while it loads, and after its running requests while it serves."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._server: Any = None
        self._lock = threading.Lock()
        child.on_leash(self._end)

    def run(self, server: Any) -> None:
        """Answer requests until it is time to leave."""
        with self._lock:
            self._server = server
        while not self._stopping.is_set():
            _turn(server, timeout=1)
        server.accepting = False
        os.unlink(server.adj.unix_socket)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while _busy(server) and time.monotonic() < deadline:
            _turn(server, timeout=0.02)
        self._leave()

    def _end(self) -> None:
        with self._lock:
            if self._server is None:
                self._leave()
            self._stopping.set()
            self._server.pull_trigger()

    @staticmethod
    def _leave() -> None:
        # A thread may be deep in a computation that nothing interrupts; the ordinary end of Python would wait for it.
        os._exit(0)


def _turn(server: Any, timeout: float) -> None:
    # waitress's own `run` cannot be told to stop from another thread.
    server.asyncore.loop(timeout=timeout, use_poll=True, map=server._map, count=1)  # noqa: SLF001


def _busy(server: Any) -> bool:
    return any(channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values()))
