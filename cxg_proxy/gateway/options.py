"""The options of the gateway: one trait each, with its unit in its name and its help in one sentence."""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import platformdirs
from jupyter_core.application import JupyterApp, base_aliases, base_flags
from traitlets import Bool, Dict, Float, Instance, Integer, List, TraitError, Unicode, validate
from traitlets.config.loader import ArgumentError, KVArgParseConfigLoader

from cxg_proxy import __version__
from cxg_proxy.annotations import LIMIT
from cxg_proxy.errors import BadConfiguration
from cxg_proxy.gateway.labels.outbox import Sender
from cxg_proxy.gateway.library.http_client import usable
from cxg_proxy.gateway.library.library import MAX_NAME_BYTES, REMOTE
from cxg_proxy.worker_options import BUILD_MEMORY_BYTES

aliases = {
    **base_aliases,
    "socket": "Gateway.socket",
    "ip": "Gateway.ip",
    "port": "Gateway.port",
    "token": "Gateway.token",
    "dataset": "Gateway.dataset",
    "labels-folder": "Gateway.labels_folder",
    "annotated": "Gateway.annotated",
    "library": "Gateway.libraries",
    "remote": "Gateway.remotes",
    "root": "Gateway.root",
    "home": "Gateway.home",
    "cache": "Gateway.cache",
    "shared-cache": "Gateway.shared_cache",
    "cache-limit": "Gateway.cache_limit",
    "build-memory": "Gateway.build_memory",
    "viewer-python": "Gateway.viewer_python",
    "idle-seconds": "Gateway.idle_seconds",
    "shutdown-when-idle-seconds": "Gateway.shutdown_when_idle_seconds",
    "max-instances": "Gateway.max_instances",
    "memory-limit": "Gateway.memory_limit",
    "start-timeout": "Gateway.start_timeout",
    "scan-limit": "Gateway.scan_limit",
    "share-prefix": "Gateway.share_prefix",
    "prefix-header": "Gateway.prefix_header",
    "title": "Gateway.title",
}
flags: dict[str, Any] = {
    **base_flags,
    "read-only": ({"Gateway": {"read_only": True}}, "Show labels and gene sets, but let nobody change them."),
    "check": (
        {"Gateway": {"check": True}},
        "Open the one dataset, see whether its viewer answers, and end: with exit status 0, or 1 and the reason.",
    ),
}
flags.pop("y", None)

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")


class Addresses(Dict):
    """Addresses by name. No error text contains an address, because addresses may hold secrets."""

    def error(self, obj: Any, value: Any, error: Any = None, info: Any = None) -> NoReturn:  # noqa: ARG002 - as traitlets'
        """Refuse a value that is not a dictionary."""
        raise TraitError(f"{self.name} is not of the form NAME=URL")

    def item_from_string(self, s: str) -> Any:
        """Read NAME=URL."""
        return super().item_from_string(s) if "=" in s else self.error(None, s)

    def validate_elements(self, obj: Any, value: Any) -> Any:
        """Check that each name can be a file's name, and that each address can be requested."""
        for name, address in value.items():
            if not isinstance(name, str) or not isinstance(address, str):
                self.error(obj, value)
            if not _plain(name) or len(name.encode(errors="replace")) > MAX_NAME_BYTES or not name.isprintable():
                # The name may be an address, if the real name was forgotten and there is a `=` in the address.
                raise TraitError(f"{self.name}: a dataset's name is short, without a slash or a leading dot")
            if not usable(address):
                raise TraitError(f"{self.name}: the address of {name!r} is not one that begins with http(s)://")
        return value


def _plain(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(".") and "\0" not in name


class StrictLoader(KVArgParseConfigLoader):
    """Reads the command line; a mistyped option ends the program with a message instead of being ignored."""

    def _handle_unrecognized_alias(self, arg: str) -> None:
        near = difflib.get_close_matches(arg, aliases, 1)
        hint = f"did you mean --{near[0]}?" if near else "`cxg-proxy --help` lists them."
        raise TraitError(f"there is no option --{arg}: {hint}")


class Gateway(JupyterApp):
    """What an administrator or a host can set, on the command line or in `cxg_proxy_config.py`."""

    name = "cxg-proxy"
    version = __version__
    description = """Look at single-cell datasets (.h5ad) with cellxgene, each in a viewer of its own.

    One gateway serves one user: it lists the datasets below its libraries, starts cellxgene for those that are
    opened, and keeps labels and gene sets below --home. Hosts (JupyterHub, Galaxy) start it; by hand:

        cxg-proxy --library data=/srv/atlases
    """
    examples = """
    cxg-proxy                                       # the .h5ad files below your home
    cxg-proxy pbmc.h5ad                             # one file alone
    cxg-proxy --library atlas=/srv/atlas --library mine=~/data --port 8888
    cxg-proxy --socket $XDG_RUNTIME_DIR/cxg.sock    # for a proxy in front; nobody else can connect
    cxg-proxy --generate-config                     # every option, explained, in a file to edit
    cxg-proxy annotations list pbmc.h5ad            # saved labels and their versions: cxg-proxy annotations --help
    cxg-proxy prepare --shared-cache DIR /srv/atlas # have datasets open at once: cxg-proxy prepare --help
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
    prefix_header = Unicode(
        "", help="The header in which the proxy in front names its prefix, below which cookies stay then."
    ).tag(config=True)
    frame_ancestors = Unicode(
        "", help="One more site (https://name) whose pages may show ours in a frame; hosts set it."
    ).tag(config=True)

    listening: Any = List(help="Sockets on --ip and --port that listen already; only a door sets them.")
    sender: Any = Instance(Sender, allow_none=True, help="Takes labels to the host's history; only a door sets it.")

    # --- what it shows
    dataset = Unicode(
        "", help="Show this one file alone, whatever its name: its viewer is the first page, and there is no list."
    ).tag(config=True)
    check = Bool(False, help="With --dataset: open it, see whether its viewer answers, and end.").tag(config=True)
    libraries = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Folders with .h5ad files, as NAME=DIRECTORY; by default home=~.",
    ).tag(config=True)
    remotes = Addresses(
        help="Datasets at http(s) addresses, as NAME=URL; a URL that holds a secret belongs in a file, not on a "
        "command line, which everybody on the machine can read.",
    ).tag(config=True)
    root = Unicode("", help="One more folder, shown first and named 'home'; hosts set it to their users' folder.").tag(
        config=True
    )
    follow_symlinks = Bool(
        None,
        allow_none=True,
        help="Whether symbolic links may lead out of a library; by default yes, and no with --read-only.",
    ).tag(config=True)
    scan_limit = Integer(100_000, min=1, help="Look at no more files and folders in each library.").tag(config=True)
    title = Unicode("cellxgene", help="The title of the list of datasets.").tag(config=True)
    share_prefix = Unicode(
        "", help="Address below which a colleague's own gateway answers, for Copy link; hosts set it."
    ).tag(config=True)
    share_home = Bool(False, help="With share_prefix: colleagues find the datasets of 'home' too; hosts set it.").tag(
        config=True
    )
    read_only = Bool(False, help="Show labels and gene sets, but let nobody change them.").tag(config=True)

    # --- where it keeps things
    home = Unicode("~/cellxgene", help="Labels and gene sets are kept below this folder.").tag(config=True)
    labels_folder = Unicode(
        "", help="With --dataset: keep its labels and gene sets in this very folder, not in one below --home."
    ).tag(config=True)
    annotated = Unicode(
        "",
        help="With --dataset: keep a copy with the labels in this file, renewed after saves and at an idle end.",
    ).tag(config=True)
    history_limit = Integer(
        LIMIT, min=1, help="The old versions of one dataset's labels and gene sets may take this many bytes."
    ).tag(config=True)
    cache = Unicode(help="What can be computed again is kept below this folder.").tag(config=True)
    cache_limit = Integer(
        None,
        allow_none=True,
        min=0,
        help="Prepared gene expression may take this many bytes of the cache; 0 keeps none, and by default it is "
        "50 GB, or half of the free disk where that is less.",
    ).tag(config=True)
    shared_cache = Unicode(
        "", help="Gene expression that `cxg-proxy prepare` has prepared for everybody is found in this folder."
    ).tag(config=True)
    build_memory = Integer(
        BUILD_MEMORY_BYTES, min=1, help="Preparing gene expression may take about this many bytes of memory."
    ).tag(config=True)
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
    preload_idle_seconds = Float(
        600,
        min=0,
        help="Keep cellxgene loaded (some 150 MB), so that viewers are there at once, from the first look at the list "
        "until so many seconds after the last look or viewer; 0 is never.",
    ).tag(config=True)
    viewer_threads = Integer(4, min=2, help="Requests that one viewer works on at once.").tag(config=True)
    diffexp_workers = Integer(1, min=1, help="Comparisons one viewer makes at once; more queue.").tag(config=True)
    diffexp_max_cells = Integer(0, min=0, help="Most cells in one comparison; 0 is no limit.").tag(config=True)
    max_body = Integer(256_000_000, min=1, help="The largest request that is accepted, in bytes.").tag(config=True)
    shutdown_when_idle_seconds = Float(
        0, min=0, help="End the whole gateway, with exit status 0, when unused for so many seconds; 0 is never."
    ).tag(config=True)

    @validate("frame_ancestors")
    def _an_origin(self, proposal: Any) -> Any:
        site: str = proposal["value"]
        if site and not _ORIGIN.fullmatch(site):
            raise TraitError(f"{site!r} is not a site such as https://example.org")
        return site

    @validate("libraries")
    def _named_plainly(self, proposal: Any) -> Any:
        for name in proposal["value"]:
            if not _plain(name):
                raise TraitError(f"{name!r} cannot name a library: choose a name without a slash or a leading dot.")
        return proposal["value"]

    def _cache_default(self) -> str:
        return platformdirs.user_cache_dir("cxg-proxy")

    def _logs_default(self) -> str:
        return platformdirs.user_log_dir("cxg-proxy")

    def initialize(self, argv: list[str] | None = None) -> None:
        """Read the command line and the configuration files; raises BadConfiguration."""
        self.raise_config_file_errors = True
        try:
            super().initialize(argv)
        except BadConfiguration:
            raise
        except Exception as reason:  # a configuration file is a program: it may raise anything
            raise BadConfiguration(detail=f"{type(reason).__name__}: {reason}") from reason
        if self.remotes and REMOTE in self.libraries:
            raise BadConfiguration(detail=f"no library can be called {REMOTE!r} beside the datasets of --remote")
        self._take_dataset()
        self._check_folders()

    def _take_dataset(self) -> None:
        """Take the one argument that is not an option as the dataset; raises BadConfiguration if that fails."""
        words = [*self.extra_args, *([self.dataset] if self.dataset else [])]
        if len(words) > 1:
            raise BadConfiguration(detail=f"{words[0]!r} and {words[1]!r}: one dataset can be shown alone, not two")
        if words and (self.libraries or self.remotes):
            raise BadConfiguration(
                detail=f"{words[0]!r} is shown alone: leave --library and --remote out, or name it there"
            )
        for option in ("labels_folder", "annotated", "check"):
            if getattr(self, option) and not words:
                name = option.replace("_", "-")
                raise BadConfiguration(detail=f"--{name} goes with one dataset, named as an argument or with --dataset")
        self.dataset = words[0] if words else ""
        if self.annotated and os.path.realpath(self.annotated) == os.path.realpath(self.dataset):
            raise BadConfiguration(detail=f"--annotated is the dataset itself: {self.dataset} is never written to")

    def _check_folders(self) -> None:
        """Raise BadConfiguration for a folder of an unknown user (`~somebody/…`) or a dataset that does not exist."""
        named = (self.root, self.home, self.cache, self.shared_cache, self.logs, self.dataset, self.labels_folder)
        for folder in (*self.libraries.values(), *named, self.annotated):
            try:
                Path(folder).expanduser()
            except RuntimeError as reason:
                raise BadConfiguration(detail=f"{folder}: there is no such user on this machine") from reason
        try:
            there = not self.dataset or Path(self.dataset).expanduser().exists()
        except OSError as reason:  # the folder may not be searched, or a name is too long
            raise BadConfiguration(detail=f"{self.dataset}: {reason.strerror}") from reason
        if not there:
            raise BadConfiguration(detail=f"{self.dataset}: there is no such file")

    def exit(self, exit_status: int | str | None = 0) -> None:
        """End the process, or raise BadConfiguration for a wrong option, for which traitlets would end it too."""
        reason = sys.exc_info()[1]
        if isinstance(reason, (TraitError, ArgumentError)):
            raise BadConfiguration(detail=str(reason)) from reason
        super().exit(exit_status)

    def _create_loader(self, argv: Any, aliases: Any, flags: Any, classes: Any) -> StrictLoader:
        return StrictLoader(argv, aliases, flags, classes=classes, log=self.log, subcommands=self.subcommands)
