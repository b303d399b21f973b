"""The gateway: `cxg-proxy`, a Jupyter application. Its life and its end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from . import __version__, commands, roots
from .annotations import directory, named, saved
from .catalogue import Catalogue
from .children import Children
from .errors import BadConfiguration, Problem
from .handlers import Desk
from .instances import Instances
from .library import REMOTE, Dataset, Library
from .limits import Limits
from .listening import Address, Sockets, private_folder
from .options import Options
from .progress import Phase
from .recognition import Recognition
from .remote import Remotes
from .routes import broken_routes, routes
from .summaries import Summaries
from .uploads import Uploads
from .view import OURS, SCRIPTS
from .visits import Visits
from .worker import Command, Place, clean_environment, real_worker

SMALL_BODY = 64_000  # bytes
END_SECONDS = 5.0  # whatever ends the gateway, everything is over after this long
BEAT_SECONDS = 1.0


class Gateway(Options):
    """Starts one cellxgene per dataset, on demand, and forwards to it."""

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the configuration; what is wrong with it is shown by `start`."""
        self._parent = os.getppid()  # early: a parent that ends while we start must be missed too
        self._wrong: BadConfiguration | None = None
        try:
            super().initialize(argv)
            self._check_folders()
        except BadConfiguration as problem:
            self._wrong = problem
            self.socket = _socket_of(argv if argv is not None else sys.argv[1:])

    def _check_folders(self) -> None:
        """Raise BadConfiguration for a folder that names an unknown user (`~somebody/…`)."""
        for folder in (*self.libraries.values(), self.root, self.home, self.cache, self.logs, self.dataset):
            try:
                Path(folder).expanduser()
            except RuntimeError as reason:
                raise BadConfiguration(detail=f"{folder}: there is no such user on this machine") from reason

        if self.dataset and not Path(self.dataset).expanduser().exists():
            raise BadConfiguration(detail=f"{self.dataset}: there is no such file")

    def exit_with(self, sentence: str) -> None:
        """End before anything was started, with a sentence."""
        print(f"cxg-proxy: {sentence}", file=sys.stderr)  # noqa: T201 - said to a person at a terminal
        self.exit(2)

    def start(self) -> None:
        """Run until a signal, the parent's end or long idleness says to stop."""
        try:
            if self._wrong is not None:
                self._show_wrong(self._wrong)
                return
            super().start()
            asyncio.run(self._run())
        except Problem as problem:
            self.exit_with(f"{problem.sentence} {problem.steps[0]}")

    def _show_wrong(self, problem: BadConfiguration) -> None:
        """Say it at the terminal; behind a socket, stay and say it on every page: a host would start us for ever."""
        if not self.socket:
            raise problem
        self.log.error("%s", problem.sentence)

        async def show() -> None:
            self._stop = asyncio.Event()
            with self._signals(), Sockets(Address(self.socket, "", 0)) as listening:
                application = Application(broken_routes(problem), log_function=lambda _: None)
                HTTPServer(application, max_body_size=SMALL_BODY).add_sockets(listening.sockets)
                await self._until_stopped(None)

        asyncio.run(show())

    # --- its life ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._used = time.monotonic()
        self._stop = asyncio.Event()
        self._label_folders = functools.lru_cache(maxsize=100_000)(self._labels)
        with (
            private_folder() as sockets,
            self._signals(),
            Sockets(Address(self.socket, self.ip, self.port)) as listening,
        ):
            desk = self._desk(sockets, listening.port)
            # Every request would be a line in the host's log; what fails is logged where it fails.
            application = Application(routes(desk), log_function=lambda _: None)
            # A form is small; the viewer's own requests raise the limit for themselves, once they are let in.
            server = HTTPServer(application, max_body_size=SMALL_BODY, body_timeout=60)
            server.add_sockets(listening.sockets)
            self._greet(desk, listening.said)
            try:
                await self._until_stopped(desk)
            finally:
                server.stop()
                await self._end(desk, sockets, listening)
                # A connection may wait for a disk that does not answer.
                await asyncio.wait({asyncio.ensure_future(server.close_all_connections())}, timeout=0.3)

    async def _end(self, desk: Desk, sockets: Path, listening: Sockets) -> None:
        """End everything within END_SECONDS."""
        parts = (desk.instances, desk.summaries, desk.recognition, desk.uploads)
        ending = asyncio.gather(*(part.close() for part in parts))
        await asyncio.wait({ending}, timeout=END_SECONDS - 0.5)
        if not ending.done():
            # What not even KILL ends hangs in its disk; waiting for it would only keep us from ending.
            self.log.error("a worker does not end: its disk does not answer; leaving it behind")
            shutil.rmtree(sockets, ignore_errors=True)
            listening.close()
            os._exit(1)

    async def _until_stopped(self, desk: Desk | None) -> None:
        """Every second: has the parent gone, is a viewer idle, is the gateway itself?"""
        idle: asyncio.Future[None] | None = None
        while not self._stop.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), BEAT_SECONDS)
            if self._parent != 1 and os.getppid() != self._parent:
                self.log.info("the process that started this gateway has ended: goodbye")
                return
            if desk is not None:
                if idle is None or idle.done():  # not awaited: a signal must not wait for a deaf worker's end
                    idle = asyncio.ensure_future(desk.instances.close_idle())
                running = desk.instances.running()
                if desk.children.busy or any(each.exchanges or each.phase is not Phase.READY for each in running):
                    self._touched()  # a long request, an opening or a copy that somebody waits for
                unused = time.monotonic() - self._used
                if 0 < self.shutdown_when_idle_seconds < unused:
                    self.log.info("unused for %.0f s: goodbye", unused)
                    return

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The handlers only note the signal; the loop acts on it."""
        loop = asyncio.get_running_loop()
        noted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for each in noted:
            loop.add_signal_handler(each, self._stop.set)
        try:
            yield
        finally:
            for each in noted:
                loop.remove_signal_handler(each)

    def _touched(self) -> None:
        self._used = time.monotonic()

    def _desk(self, sockets: Path, port: int) -> Desk:
        """Make what the handlers work with."""
        follow = self.follow_symlinks if self.follow_symlinks is not None else not self.read_only
        cache = Path(self.cache).expanduser()
        remotes = Remotes(cache / REMOTE, self.remotes)
        self._copies = remotes.folder
        found = self._alone(sockets) if self.dataset else roots.folders(self.libraries, self.root)
        follow = follow or bool(self.dataset)
        library = Library(found, follow_symlinks=follow, copies=remotes.folder, remotes=self.remotes)
        environment = clean_environment(os.environ, self.viewer_environment)
        visits = Visits(cache / "visits.json")
        place = Place(sockets, Path(self.logs).expanduser(), environment)
        instances = Instances(self._worker(), place, self._limits(), visits, remotes.fetch)
        viewer = [self.viewer_python, "-m", "cxg_proxy.viewer"]
        summaries = Summaries(cache / "summaries", [*viewer, "summarize"], cwd=sockets, environment=environment)
        children = Children(viewer, self._options, cache / "exports", cwd=sockets, environment=environment)
        catalogue = Catalogue(
            library,
            self.scan_limit,
            summaries,
            visits,
            instances,
            saved=self._saved,
            share=self._share,
        )
        return Desk(
            title=self.title,
            library=library,
            catalogue=catalogue,
            summaries=summaries,
            instances=instances,
            children=children,
            uploads=Uploads(children),
            recognition=Recognition(Path(self.home).expanduser(), self._labels_of, summaries, children),
            labels=self._labels_of,
            alone=bool(self.dataset),
            history_limit=self.history_limit,
            token="" if self.socket else self.token or secrets.token_urlsafe(24),
            xsrf=secrets.token_urlsafe(24),
            cookie=f"cxg-proxy-{port}",
            read_only=self.read_only,
            max_body=self.max_body,
            memory_limit=self.memory_limit,
            touched=self._touched,
        )

    def _share(self, dataset: Dataset) -> str:
        """The link for a colleague; none where each has a folder of their own under the same name."""
        if self.dataset or (self.share_prefix and dataset.library == "home"):
            return ""
        return f"{self.share_prefix}view/{dataset.address}/"

    def _alone(self, place: Path) -> dict[str, Path]:
        title = self.title if self.title != type(self).title.default_value else ""
        return roots.alone(self.dataset, title, place)

    def _limits(self) -> Limits:
        return Limits(
            most=self.max_instances,
            idle_seconds=self.idle_seconds,
            start_timeout=self.start_timeout,
            in_use_seconds=self.in_use_seconds,
        )

    def _worker(self) -> Command:
        more = ["--threads", str(self.viewer_threads), "--history-limit", str(self.history_limit)]
        more += ["--memory-limit", str(self.memory_limit)] if self.memory_limit else []
        more += ["--read-only"] if self.read_only else []
        return real_worker(self.viewer_python, self._options, self._labels_of, more)

    def _options(self, dataset: Dataset) -> dict[str, Any]:
        """cellxgene's options for a dataset; whatever scripts they name, ours come first."""
        options = {**self.viewer_options, **self.dataset_options.get(dataset.name, {})}
        scripts = options.get("scripts") or []
        ours = [OURS + name for name in SCRIPTS]
        return {**options, "scripts": [*ours, *(scripts if isinstance(scripts, list) else [scripts])]}

    def _labels_of(self, dataset: Dataset) -> Path:
        return self._labels(dataset.real)

    def _labels(self, real: Path) -> Path:
        if self.labels_folder:
            return Path(self.labels_folder).expanduser().absolute()
        home = Path(self.home).expanduser()
        return named(home, f"{REMOTE}/{real.name}") if real.parent == self._copies else directory(home, real)

    def _saved(self, files: Iterable[Path]) -> dict[Path, float]:
        """When labels of these files were saved last; the home is listed once, however many files there are."""
        try:
            there = set(os.listdir(Path(self.home).expanduser()))
        except OSError:
            return {}
        return {
            file: when
            for file in files
            if (folder := self._label_folders(file)).name in there and (when := saved(folder)) is not None
        }

    def _greet(self, desk: Desk, said: str) -> None:
        where = f"{said}?token={desk.token}" if desk.token else said
        self.log.info("cxg-proxy %s listens on %s", __version__, where)


def _socket_of(argv: list[str]) -> str:
    """The socket named on a command line that could not be read as a whole."""
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        if word == "--socket":
            return after
        if word.startswith("--socket="):
            return word.partition("=")[2]
    return ""


def main(argv: list[str] | None = None) -> None:
    """Run `cxg-proxy`."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["annotations"]:
        sys.exit(commands.main(arguments[1:]))
    Gateway.launch_instance(argv)
