"""The worker's life: say `starting`, load, listen, say `ready`, and leave when the leash is cut or TERM comes."""

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
_STACK_BYTES = 2 * 1024**2  # of a thread from now on: the usual 8 MB count against the memory limit, used or not


def serve(order: ServeOrder) -> int:
    """Serve one dataset until told to leave; returns the exit status."""
    say = child.channel()
    life = _Life()

    def tell(step: Step) -> None:
        say(step.line())

    tell(Step(Phase.STARTING, version=__version__))
    child.log_to_stderr()
    # cellxgene 1.3 calls what today's anndata means to remove: nothing a reader of the log can do about.
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
    """Says that the viewer is ready and, from then on, how far its gene expression is."""

    def __init__(self, tell: Callable[[Step], None]):
        self._tell = tell
        self._said = False
        self._step = Step(Phase.READY)
        self._lock = threading.Lock()

    def preparing(self, done: float | None, note: str) -> None:
        """The share that is prepared, None when nothing is (any more), and what a person should read."""
        with self._lock:
            self._step = Step(Phase.READY, done=done, note=note)
            if self._said:
                self._tell(self._step)

    def say(self, state: str) -> None:
        """The viewer answers now; `state` is what the tags of its replies are made from."""
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
    """What counts against the limit already, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:
            held = next((line for line in status if line.startswith(b"VmData:")), b"VmData: 0")
    except OSError:
        return 0
    return int(held.split()[1]) * 1024


def _start(order: ServeOrder, tell: Callable[[Step], None], ready: _Ready) -> tuple[Any, str]:
    """Load the dataset and listen: the server, and the state that its tags are made from.

    What needs no heavy import is checked before them.
    """
    tell(Step(Phase.LOADING, done=0.0))
    dataset = os.path.abspath(order.dataset)
    h5ad.look(dataset)
    try:
        chosen = options.gather(dataset, order.options)
        load, read = _loader()
        # Not before the imports: without memory, the library of linear algebra waits for ever while it is loaded.
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
    from cxg_proxy.viewer.cellxgene.reply_tags import Tags  # noqa: PLC0415 - it imports flask, and `starting` must be out before

    return Tags.used_by(application).state


def _loader() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from cxg_proxy.viewer.cellxgene.application import load  # noqa: PLC0415 - heavy, and perhaps not installed
        from cxg_proxy.viewer.dataset.load import load_dataset  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ViewerMissing(sys.executable, detail=str(error)) from error
    return load, load_dataset


def _stores(order: ServeOrder) -> Any:
    """Where stores are and may be made, or None."""
    if order.cache is None:
        return None
    from cxg_proxy.viewer.store import eviction  # noqa: PLC0415 - it imports h5py
    from cxg_proxy.viewer.store.cache import Stores  # noqa: PLC0415 - as above

    limit = order.cache_limit
    if limit is None:
        try:
            limit = max(1, eviction.usual_limit(order.cache))  # 0 would mean that nobody wants a store
        except OSError:  # who builds a store meets the same, and says so
            limit = 1
    return Stores(order.cache, order.shared_cache, limit=limit, memory=order.build_memory)


def _listen(order: ServeOrder, application: Any) -> Any:
    from waitress.channel import HTTPChannel  # noqa: PLC0415 - it may be missing, and `starting` must be out before
    from waitress.server import create_server  # noqa: PLC0415 - as above

    from cxg_proxy.viewer.cellxgene.admission import WAITING  # noqa: PLC0415 - after those that say what is missing
    from cxg_proxy.viewer.cellxgene.request_limits import BODY_BYTES, Parser  # noqa: PLC0415 - it imports waitress, too

    class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
        parser_class = Parser

    threading.stack_size(_STACK_BYTES)
    never = 2**62  # bodies and replies are bounded; on disk, a full disk would break them
    try:
        server = create_server(
            application,
            unix_socket=order.socket,
            unix_socket_perms="600",
            threads=order.threads + WAITING,
            channel_request_lookahead=1,  # or the end of a connection is not seen before its request is answered
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
    server.asyncore.loop(timeout=timeout, use_poll=True, map=server._map, count=1)  # noqa: SLF001 - nothing public names it


def _busy(server: Any) -> bool:
    return any(channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values()))
