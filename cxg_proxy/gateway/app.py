"""The application `cxg-proxy`: it reads its configuration, and runs the gateway from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jupyter_core.application import NoStart
from tornado.httpserver import HTTPServer
from tornado.web import Application

from cxg_proxy import __version__
from cxg_proxy.errors import BadConfiguration, CannotListen, Problem, Stopped
from cxg_proxy.gateway.web.routes import broken_routes, routes

from .options import Gateway
from .services import Services, build_services
from .sockets import Address, Sockets, private_folder
from .standalone import Standalone

SMALL_BODY = 64_000  # bytes
END_SECONDS = 5.0  # whatever ends the gateway, everything has ended after this time
BEAT_SECONDS = 1.0
FAILED_SECONDS = 120.0  # how long it stays unused if the only dataset cannot be shown: enough to read why


def launch(argv: Sequence[str] | None = None, **given: Any) -> None:
    """Run a gateway with these arguments, or those of the process, and traits; what is wrong is said, and it ends.

    The exit status is 2 if nothing was started, and 1 if the only dataset cannot be shown.
    """
    parent = os.getppid()  # early, so that a parent that ends during the start is noticed too
    arguments = list(sys.argv[1:] if argv is None else argv)
    gateway = Gateway.instance(**given)
    try:
        try:
            gateway.initialize(arguments)
            gateway.start()
        except NoStart:  # it was asked only to show or to write its configuration
            return
        except BadConfiguration as problem:
            gateway.socket = _socket_of(arguments)
            asyncio.run(_show_wrong(gateway, parent, problem))
            return
        asyncio.run(Life(gateway, parent).run())
    except Problem as problem:
        print(f"cxg-proxy: {problem.sentence} {problem.steps[0]}", file=sys.stderr)  # noqa: T201 - to a person
        gateway.exit(2 if isinstance(problem, (BadConfiguration, CannotListen)) else 1)


async def _show_wrong(gateway: Gateway, parent: int, problem: BadConfiguration) -> None:
    """Report the problem on every page where a host has named a socket; raises it elsewhere.

    Behind a socket the gateway keeps running, because otherwise its host would start it again for ever.
    """
    if not gateway.socket:
        raise problem
    gateway.log.error("%s", problem.sentence)
    await Life(gateway, parent).show(broken_routes(problem))


class Life:
    """The life of a gateway: listening, serving, and ending everything that it has started.

    `parent` is the process that started it.
    """

    def __init__(self, options: Gateway, parent: int) -> None:
        self._options, self._parent, self._log = options, parent, options.log
        self._used = time.monotonic()
        self._stop = asyncio.Event()

    async def show(self, pages: list[Any]) -> None:
        """Serve these pages and nothing else until a signal or the end of the parent process."""
        with _signals(self._stop), Sockets(Address(self._options.socket, "", 0)) as listening:
            application = Application(pages, log_function=lambda _: None)
            HTTPServer(application, max_body_size=SMALL_BODY).add_sockets(listening.sockets)
            await self._until_stopped(None)

    async def run(self) -> None:
        """Listen and serve until a signal, the end of the parent process or long idleness."""
        options = self._options
        with (
            private_folder() as sockets,
            _signals(self._stop),
            Sockets(Address(options.socket, options.ip, options.port, options.listening)) as listening,
        ):
            services = await build_services(options, sockets, os.environ, listening.port, self._touched)
            # Every request would be a line in the host's log; failures are logged where they occur.
            application = Application(routes(services), log_function=lambda _: None)
            # A form is small; the viewer's own requests raise the limit for themselves, once they have been admitted.
            server = HTTPServer(application, max_body_size=SMALL_BODY, body_timeout=60)
            server.add_sockets(listening.sockets)
            self._greet(services, listening.said)
            try:
                await self._show(services)
            finally:
                server.stop()
                await self._end(services, sockets, listening)
                # A connection may be waiting for a disk that does not respond.
                await asyncio.wait({asyncio.ensure_future(server.close_all_connections())}, timeout=0.3)

    async def _show(self, services: Services) -> None:
        """Serve until stopped, or until unused for long; raises the Problem if the only dataset could not be shown."""
        if not self._options.dataset:
            await self._until_stopped(services)
            return
        alone = Standalone(services, self._options.annotated, self._log)
        living: asyncio.Future[Any] = asyncio.ensure_future(alone.check() if self._options.check else alone.live())
        try:
            if self._options.check:
                await self._or_stopped(living)
                if not living.done():
                    raise Stopped(self._options.dataset)
                self._log.info("%s", living.result())
                return
            living.add_done_callback(self._tell_of_failure)
            await self._until_stopped(services, alone)
            if not self._stop.is_set():
                finishing = asyncio.ensure_future(alone.finish())
                finishing.add_done_callback(self._tell_of_failure)
                await self._or_stopped(finishing)
                if alone.problem is not None:
                    raise alone.problem
        finally:
            living.cancel()
            await asyncio.wait({living})

    async def _or_stopped(self, work: asyncio.Future[Any]) -> None:
        """Wait for `work`, but at most until a signal, and then cancel it."""
        stopped = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for each in (work, stopped):
            each.cancel()

    def _tell_of_failure(self, work: asyncio.Future[Any]) -> None:
        """Log an unforeseen error, which would otherwise be lost with the task."""
        if not work.cancelled() and (reason := work.exception()) is not None:
            self._log.error("the dataset’s copy is not renewed any more", exc_info=reason)

    async def _end(self, services: Services, sockets: Path, listening: Sockets) -> None:
        """End everything within END_SECONDS."""
        parts = (services.instances, services.fork_server, services.summaries, services.recognition, services.uploads)
        ending = asyncio.gather(*(part.close() for part in parts))
        await asyncio.wait({ending}, timeout=END_SECONDS - 0.5)
        if not ending.done():
            # A process that not even KILL ends hangs on its disk; waiting for it would only delay the gateway's end.
            self._log.error("a worker does not end: its disk does not answer; leaving it behind")
            shutil.rmtree(sockets, ignore_errors=True)
            listening.close()
            os._exit(1)

    async def _until_stopped(self, services: Services | None, alone: Standalone | None = None) -> None:
        """Check every second whether the parent has ended, a viewer is idle, or the gateway itself is."""
        idle: asyncio.Future[None] | None = None
        while not self._stop.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), BEAT_SECONDS)
            if self._parent != 1 and os.getppid() != self._parent:
                self._log.info("the process that started this gateway has ended: goodbye")
                return
            if services is not None:
                if idle is None or idle.done():  # not awaited: a signal must not wait for a hung worker's end
                    idle = asyncio.ensure_future(services.instances.close_idle())
                running = services.instances.running()
                if services.jobs.busy or any(each.at_work() for each in running):
                    self._touched()  # a long request, an opening, a preparation or a copy that somebody waits for
                unused, most = time.monotonic() - self._used, self._options.shutdown_when_idle_seconds
                if alone is not None and alone.problem is not None:
                    most = min(most or FAILED_SECONDS, FAILED_SECONDS)
                if 0 < most < unused:
                    self._log.info("unused for %.0f s: goodbye", unused)
                    return

    def _touched(self) -> None:
        self._used = time.monotonic()

    def _greet(self, services: Services, said: str) -> None:
        # A host that has set the token knows it, and others read the logs.
        made_here = services.token and not self._options.token
        where = f"{said}?token={services.token}" if made_here else said
        self._log.info("cxg-proxy %s listens on %s", __version__, where)


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Handle signals inside the block: the handlers only note the signal, and the loop acts on it."""
    loop = asyncio.get_running_loop()
    noted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for each in noted:
        loop.add_signal_handler(each, stop.set)
    try:
        yield
    finally:
        for each in noted:
            loop.remove_signal_handler(each)


def _socket_of(argv: list[str]) -> str:
    """Return the socket that a command line names, although the line as a whole could not be read."""
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        if word == "--socket":
            return after
        if word.startswith("--socket="):
            return word.partition("=")[2]
    return ""
