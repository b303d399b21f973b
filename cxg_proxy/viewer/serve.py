"""Serving a dataset: the worker reports `starting`, loads, listens, reports `ready`, and ends when it is told to.

It ends when its standard input closes, or at SIGTERM, SIGINT or SIGHUP.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cxg_proxy import __version__
from cxg_proxy.annotations import display_name
from cxg_proxy.errors import CannotListen, NotEnoughMemory, Problem, ViewerMissing
from cxg_proxy.steps import Phase, Step
from cxg_proxy.viewer.source import h5ad
from cxg_proxy.worker_options import ServeOrder

from . import child, options

_PATIENCE_SECONDS = 1.0
_ROOM_BYTES = 32 * 1024**2
_STACK_BYTES = 2 * 1024**2  # of each new thread: the usual 8 MB count against the memory limit, used or not


def serve(order: ServeOrder) -> int:
    """Serve one dataset until the process is told to end; return the exit status."""
    say = child.channel()
    life = _Life()

    def tell(step: Step) -> None:
        say(step.line())

    tell(Step(Phase.STARTING, version=__version__))
    child.log_to_stderr()
    # cellxgene 1.3 calls functions that anndata plans to remove, and a reader of the log can do nothing about it.
    warnings.simplefilter("ignore", FutureWarning)
    ready = _Ready(tell)
    started = child.outcome(lambda: _start(order, tell, ready), order.dataset)
    if isinstance(started, Problem):
        tell(Step(Phase.FAILED, problem=started))
        return 1
    server, state = started
    ready.say(state)
    life.run(server)
    return 0


class _Ready:
    """The reports that the viewer is ready and, from then on, how much of its gene expression is prepared."""

    def __init__(self, tell: Callable[[Step], None]):
        self._tell = tell
        self._said = False
        self._step = Step(Phase.READY)
        self._lock = threading.Lock()

    def preparing(self, done: float | None, note: str) -> None:
        """Record the share that is prepared, None if nothing is being prepared, with a note for the user.

        It is also reported once the viewer is ready.
        """
        with self._lock:
            self._step = Step(Phase.READY, done=done, note=note)
            if self._said:
                self._tell(self._step)

    def say(self, state: str) -> None:
        """Report that the viewer answers now; `state` is the digest from which the ETags of its replies are made."""
        with self._lock:
            self._said = True
            self._tell(replace(self._step, state=state))


def _limit_memory(limit: int | None) -> None:
    if limit is None:
        return
    if limit < _memory_held() + _ROOM_BYTES:
        raise MemoryError  # HDF5 would crash at its first allocation instead of refusing it
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _memory_held() -> int:
    """Return the bytes that count against the limit already, 0 where the system does not report them."""
    try:
        with open("/proc/self/status", "rb") as status:
            held = next((line for line in status if line.startswith(b"VmData:")), b"VmData: 0")
    except OSError:
        return 0
    return int(held.split()[1]) * 1024


def _start(order: ServeOrder, tell: Callable[[Step], None], ready: _Ready) -> tuple[Any, str]:
    """Load the dataset, listen, and return the server and the digest from which its ETags are made.

    Checks that need no heavy import come before the imports.
    """
    tell(Step(Phase.LOADING, done=0.0))
    dataset = os.path.abspath(order.dataset)
    h5ad.look(dataset)
    try:
        chosen = options.gather(dataset, order.options)
        load, read = _loader()
        # The limit is set after the imports: without memory, OpenBLAS would wait for ever while it is loaded.
        _limit_memory(order.memory_limit)
        application = load(
            dataset,
            order.labels,
            chosen,
            read_only=order.read_only,
            history_limit=order.history_limit,
            diffexp_workers=order.diffexp_workers,
            diffexp_max_cells=order.diffexp_max_cells,
            read=lambda path, layer: read(path, layer, _stores(order), ready.preparing),
        )
    except (MemoryError, NotEnoughMemory) as error:
        detail = f"the limit is {order.memory_limit / 2**20:,.0f} MiB" if order.memory_limit else ""
        raise NotEnoughMemory(display_name(dataset), detail=detail) from error
    return _listen(order, application), _state(application)


def _state(application: Any) -> str:
    from cxg_proxy.viewer.cellxgene.reply_tags import Tags  # noqa: PLC0415 - it imports flask, and `starting` must be sent first

    return Tags.used_by(application).state


def _loader() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from cxg_proxy.viewer.cellxgene.application import load  # noqa: PLC0415 - heavy, and perhaps not installed
        from cxg_proxy.viewer.dataset.load import load_dataset  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ViewerMissing(sys.executable, detail=str(error)) from error
    return load, load_dataset


def _stores(order: ServeOrder) -> Any:
    """Return the stores that the order allows, or None."""
    if order.cache is None:
        return None
    from cxg_proxy.viewer.store import eviction  # noqa: PLC0415 - it imports h5py
    from cxg_proxy.viewer.store.cache import Stores  # noqa: PLC0415 - as above

    limit = order.cache_limit
    if limit is None:
        try:
            limit = max(1, eviction.usual_limit(order.cache))  # 0 would mean that no store is kept
        except OSError:  # the builder meets the same error, and reports it
            limit = 1
    return Stores(order.cache, order.shared_cache, limit=limit, memory=order.build_memory)


def _listen(order: ServeOrder, application: Any) -> Any:
    from waitress.channel import HTTPChannel  # noqa: PLC0415 - it may be missing, and `starting` must be sent first
    from waitress.server import create_server  # noqa: PLC0415 - as above

    from cxg_proxy.viewer.cellxgene.admission import WAITING  # noqa: PLC0415 - after the imports that report what is missing
    from cxg_proxy.viewer.cellxgene.request_limits import BODY_BYTES, Parser  # noqa: PLC0415 - it imports waitress, too

    class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
        parser_class = Parser

    threading.stack_size(_STACK_BYTES)
    never = 2**62  # requests and replies stay in memory: they are limited, and a full disk would break them
    try:
        server = create_server(
            application,
            unix_socket=order.socket,
            unix_socket_perms="600",
            threads=order.threads + WAITING,
            channel_request_lookahead=1,  # or a disconnection is not noticed before the request is answered
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
    """The worker's life: it ends at once while it loads, and after its running requests while it serves."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._server: Any = None
        self._lock = threading.Lock()
        child.end_with_parent(self._end)

    def run(self, server: Any) -> None:
        """Answer requests until the worker is told to end, and then at most 1 s longer those that are running."""
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
        # A thread may be in a computation that cannot be interrupted, and Python's ordinary exit would wait for it.
        os._exit(0)


def _turn(server: Any, timeout: float) -> None:
    # waitress's `run` cannot be stopped from another thread.
    server.asyncore.loop(timeout=timeout, use_poll=True, map=server._map, count=1)  # noqa: SLF001 - it has no public name


def _busy(server: Any) -> bool:
    return any(channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values()))
