"""The gateway: `cxg-proxy`, a Jupyter application. Its options, its life, its end."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
from jupyter_core.application import JupyterApp, base_aliases, base_flags
from tornado.httpserver import HTTPServer
from tornado.web import Application
from traitlets import Bool, Dict, Float, Integer, TraitError, Unicode, validate
from traitlets.config import catch_config_error
from traitlets.config.loader import KVArgParseConfigLoader

from . import __version__
from .annotations import directory, saved
from .catalogue import Catalogue
from .errors import Problem
from .handlers import Desk
from .instances import Instances, Limits
from .library import Dataset, Library
from .listening import Address, Sockets, private_folder
from .routes import routes
from .summaries import Summaries
from .visits import Visits
from .worker import Place, clean_environment, real_worker

END_SECONDS = 5.0  # whatever ends the gateway, everything is over after this long
BEAT_SECONDS = 1.0

aliases = {
    **base_aliases,
    "socket": "Gateway.socket",
    "ip": "Gateway.ip",
    "port": "Gateway.port",
    "token": "Gateway.token",
    "library": "Gateway.libraries",
    "root": "Gateway.root",
    "home": "Gateway.home",
    "viewer-python": "Gateway.viewer_python",
    "idle-seconds": "Gateway.idle_seconds",
    "shutdown-when-idle-seconds": "Gateway.shutdown_when_idle_seconds",
    "max-instances": "Gateway.max_instances",
    "memory-limit": "Gateway.memory_limit",
    "start-timeout": "Gateway.start_timeout",
    "scan-limit": "Gateway.scan_limit",
    "share-prefix": "Gateway.share_prefix",
    "title": "Gateway.title",
}
flags: dict[str, Any] = {
    **base_flags,
    "read-only": ({"Gateway": {"read_only": True}}, "Show labels and gene sets, but let nobody change them."),
}
flags.pop("y", None)


class StrictLoader(KVArgParseConfigLoader):
    """Reads the command line; a mistyped option ends with a sentence instead of being passed over."""

    def _handle_unrecognized_alias(self, arg: str) -> None:
        near = difflib.get_close_matches(arg, aliases, 1)
        hint = f"did you mean --{near[0]}?" if near else "`cxg-proxy --help` lists them."
        raise TraitError(f"there is no option --{arg}: {hint}")


class Gateway(JupyterApp):
    """Starts one cellxgene per dataset, on demand, and forwards to it."""

    name = "cxg-proxy"
    version = __version__
    description = """Look at single-cell datasets (.h5ad) with cellxgene, each in a viewer of its own.

    One gateway serves one user: it lists the datasets below its libraries, starts cellxgene for those that are
    opened, and keeps labels and gene sets below --home. Hosts (JupyterHub, Galaxy) start it; by hand:

        cxg-proxy --library data=/srv/atlases
    """
    examples = """
    cxg-proxy                                       # the .h5ad files below your home
    cxg-proxy --library atlas=/srv/atlas --library mine=~/data --port 8888
    cxg-proxy --socket $XDG_RUNTIME_DIR/cxg.sock    # for a proxy in front; nobody else can connect
    cxg-proxy --generate-config                     # every option, explained, in a file to edit
    """
    aliases = aliases
    flags = flags

    # --- where it listens
    socket = Unicode("", help="Listen on this unix socket (mode 0600) instead of a port.").tag(config=True)
    ip = Unicode("127.0.0.1", help="Listen on this address.").tag(config=True)
    port = Integer(8888, min=0, max=65535, help="Listen on this TCP port; 0 picks a free one.").tag(config=True)
    token = Unicode("", help="Every request on a TCP port must hold this token; made and printed if empty.").tag(
        config=True
    )

    # --- what it shows
    libraries = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Folders with .h5ad files, as NAME=DIRECTORY; by default home=~.",
    ).tag(config=True)
    root = Unicode("", help="One more folder, shown first and named 'home'; hosts set it to their users' folder.").tag(
        config=True
    )
    follow_symlinks = Bool(
        None,
        allow_none=True,
        help="Whether symbolic links may lead out of a library; by default yes, and no with --read-only.",
    ).tag(config=True)
    scan_limit = Integer(100_000, min=1, help="Look at no more files and folders than this in each library.").tag(
        config=True
    )
    title = Unicode("cellxgene", help="The title of the list of datasets.").tag(config=True)
    share_prefix = Unicode(
        "", help="Address below which a colleague's own gateway answers, for Copy link; hosts set it."
    ).tag(config=True)
    read_only = Bool(False, help="Show labels and gene sets, but let nobody change them.").tag(config=True)

    # --- where it keeps things
    home = Unicode("~/cellxgene", help="Labels and gene sets are kept below this folder.").tag(config=True)
    cache = Unicode(help="What can be computed again is kept below this folder.").tag(config=True)
    logs = Unicode(help="The viewers' logs are kept in this folder.").tag(config=True)

    # --- the viewers
    viewer_python = Unicode(
        sys.executable, help="The Python of the environment that has cxg-proxy[viewer] installed."
    ).tag(config=True)
    viewer_options = Dict(help="cellxgene's own options by their cellxgene names, for every dataset.").tag(config=True)
    dataset_options = Dict(help="The same for single datasets: {'library/path.h5ad': {option: value}}.").tag(
        config=True
    )
    viewer_environment = Dict(help="Environment variables for the viewers, which inherit only harmless ones.").tag(
        config=True
    )
    max_instances = Integer(4, min=1, help="At most so many viewers run at once.").tag(config=True)
    memory_limit = Integer(0, min=0, help="Each viewer may use this many bytes of memory; 0 is no limit.").tag(
        config=True
    )
    idle_seconds = Float(1800, min=0, help="Close a viewer nobody has used for so many seconds; 0 is never.").tag(
        config=True
    )
    start_timeout = Float(600, min=0, help="Give up on a viewer that is not ready in so many seconds; 0 is never.").tag(
        config=True
    )
    in_use_seconds = Float(
        120, min=0, help="A viewer used in the last so many seconds is not closed to make room for another."
    ).tag(config=True)
    viewer_threads = Integer(4, min=2, help="Requests that one viewer works on at once.").tag(config=True)
    max_body = Integer(256_000_000, min=1, help="The largest request that is accepted, in bytes.").tag(config=True)
    shutdown_when_idle_seconds = Float(
        0, min=0, help="End the whole gateway, with exit status 0, when unused for so many seconds; 0 is never."
    ).tag(config=True)

    @validate("libraries")
    def _named_plainly(self, proposal: Any) -> Any:
        for name in proposal["value"]:
            if not name or "/" in name or name.startswith(".") or "\0" in name:
                raise TraitError(f"{name!r} cannot name a library: choose a name without a slash or a leading dot.")
        return proposal["value"]

    def _cache_default(self) -> str:
        return platformdirs.user_cache_dir("cxg-proxy")

    def _logs_default(self) -> str:
        return platformdirs.user_log_dir("cxg-proxy")

    @catch_config_error
    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the command line and the configuration files."""
        self.raise_config_file_errors = True
        super().initialize(argv)
        if self.extra_args:
            self.exit_with(
                f"What is {self.extra_args[0]!r}? Datasets are found in libraries: --library NAME=DIRECTORY."
            )

    def _create_loader(self, argv: Any, aliases: Any, flags: Any, classes: Any) -> StrictLoader:
        return StrictLoader(argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands)

    def exit_with(self, sentence: str) -> None:
        """End before anything was started, with a sentence."""
        print(f"cxg-proxy: {sentence}", file=sys.stderr)  # noqa: T201 - said to a person at a terminal
        self.exit(2)

    def start(self) -> None:
        """Run until a signal, the parent's end or long idleness says to stop."""
        super().start()
        try:
            asyncio.run(self._run())
        except Problem as problem:
            self.exit_with(f"{problem.sentence} {problem.steps[0]}")

    # --- its life ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._used = time.monotonic()
        self._stop = asyncio.Event()
        with private_folder() as sockets, self._signals():
            desk = self._desk(sockets)
            try:
                with Sockets(Address(self.socket, self.ip, self.port)) as listening:
                    # Every request would be a line in the host's log; what fails is logged where it fails.
                    application = Application(routes(desk), log_function=lambda _: None)
                    server = HTTPServer(application, max_body_size=self.max_body)
                    server.add_sockets(listening.sockets)
                    self._greet(desk, listening.said)
                    await self._until_stopped(desk)
                    server.stop()
                    await asyncio.wait_for(desk.instances.close(), END_SECONDS - 0.5)
                    await server.close_all_connections()
            finally:
                await desk.instances.close()
                await desk.summaries.close()

    async def _until_stopped(self, desk: Desk) -> None:
        """Every second: has the parent gone, is a viewer idle, is the gateway itself?"""
        parent = os.getppid()
        while not self._stop.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), BEAT_SECONDS)
            await desk.instances.close_idle()
            unused = time.monotonic() - self._used
            if self.shutdown_when_idle_seconds and unused > self.shutdown_when_idle_seconds:
                self.log.info("unused for %.0f s: goodbye", unused)
                return
            if parent != 1 and os.getppid() != parent:
                self.log.info("the process that started this gateway has ended: goodbye")
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

    def _desk(self, sockets: Path) -> Desk:
        """Make what the handlers work with."""
        follow = self.follow_symlinks if self.follow_symlinks is not None else not self.read_only
        library = Library(self._roots(), follow_symlinks=follow)
        cache = Path(self.cache).expanduser()
        environment = clean_environment(os.environ, self.viewer_environment)
        visits = Visits(cache / "visits.json")
        instances = Instances(
            self._worker(), Place(sockets, Path(self.logs).expanduser(), environment), self._limits(), visits
        )
        summaries = Summaries(
            cache / "summaries",
            [self.viewer_python, "-m", "cxg_proxy.viewer", "summarize"],
            cwd=sockets,
            environment=environment,
        )
        catalogue = Catalogue(
            library,
            self.scan_limit,
            summaries,
            visits,
            instances,
            saved=lambda real: saved(self._labels(real)),
            share=lambda dataset: f"{self.share_prefix}view/{dataset.address}/",
        )
        return Desk(
            title=self.title,
            library=library,
            catalogue=catalogue,
            summaries=summaries,
            instances=instances,
            token="" if self.socket else self.token or secrets.token_urlsafe(24),
            xsrf=secrets.token_urlsafe(24),
            cookie=f"cxg-proxy-{self.port}",
            read_only=self.read_only,
            max_body=self.max_body,
            memory_limit=self.memory_limit,
            touched=self._touched,
        )

    def _roots(self) -> dict[str, Path]:
        roots = {name: Path(folder).expanduser().absolute() for name, folder in self.libraries.items()}
        if self.root or not roots:
            first = Path(self.root or "~").expanduser().absolute()
            roots = {"home": first, **{name: folder for name, folder in roots.items() if name != "home"}}
        return roots

    def _limits(self) -> Limits:
        return Limits(
            most=self.max_instances,
            idle_seconds=self.idle_seconds,
            start_timeout=self.start_timeout,
            in_use_seconds=self.in_use_seconds,
        )

    def _worker(self) -> Any:
        more = ["--threads", str(self.viewer_threads)]
        more += ["--memory-limit", str(self.memory_limit)] if self.memory_limit else []
        more += ["--read-only"] if self.read_only else []
        return real_worker(self.viewer_python, self._options, lambda dataset: self._labels(dataset.real), more)

    def _options(self, dataset: Dataset) -> dict[str, Any]:
        ours = {"scripts": ["cxg-proxy/viewer.js", *self.viewer_options.get("scripts", [])]}
        return {**self.viewer_options, **ours, **self.dataset_options.get(dataset.name, {})}

    def _labels(self, real: Path) -> Path:
        return directory(Path(self.home).expanduser(), real)

    def _greet(self, desk: Desk, said: str) -> None:
        where = f"{said}?token={desk.token}" if desk.token else said
        self.log.info("cxg-proxy %s listens on %s", __version__, where)


def main(argv: list[str] | None = None) -> None:
    """Run `cxg-proxy`."""
    Gateway.launch_instance(argv)
