"""The services of a gateway: all that its handlers work with, built from its options."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cxg_proxy.errors import StorageSilent
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.labels.folders import LabelFolders
from cxg_proxy.gateway.labels.outbox import Outbox
from cxg_proxy.gateway.labels.recognition import Recognition
from cxg_proxy.gateway.labels.uploads import Uploads
from cxg_proxy.gateway.library.dataset import Dataset, escape
from cxg_proxy.gateway.library.library import REMOTE, Library, other_name, root_alone, root_folders
from cxg_proxy.gateway.library.remote import Remotes
from cxg_proxy.gateway.library.visits import Visits
from cxg_proxy.gateway.workers.command import WorkerEnvironment, clean_environment, viewer_command, with_gateway_scripts
from cxg_proxy.gateway.workers.fork_server import ForkServer
from cxg_proxy.gateway.workers.instance import Limits
from cxg_proxy.gateway.workers.instances import Instances
from cxg_proxy.gateway.workers.jobs import Jobs
from cxg_proxy.gateway.workers.summaries import Summaries
from cxg_proxy.worker_options import ServeOrder

from .catalogue import Catalogue
from .options import Gateway

STARTUP_SECONDS = 2.0  # that a home may take to answer before the gateway starts without it

Result = TypeVar("Result")


@dataclass
class Services:
    """What the handlers work with; the application builds it once."""

    title: str
    library: Library
    catalogue: Catalogue
    summaries: Summaries
    instances: Instances
    fork_server: ForkServer
    jobs: Jobs
    uploads: Uploads
    recognition: Recognition
    outbox: Outbox | None  # the way to the host's history, if the host has one
    folder: Path  # the folder in which relative paths begin
    home: Path  # the folder of all labels
    labels: Callable[[Dataset], Path]  # returns the folder of this user's labels for a dataset
    history_limit: int
    alone: bool  # whether one dataset is shown, and no list
    token: str  # "" behind a unix socket, where the file's permissions control access
    xsrf: str
    cookie: str
    prefix_header: str  # the header with the prefix of the proxy in front, "" if there is none
    frame_ancestors: str  # a site, besides the gateway's own, that may show its pages in a frame
    read_only: bool
    max_body: int
    memory_limit: int
    touched: Callable[[], None]  # called at every request, so that the gateway knows when it is idle


async def build_services(
    options: Gateway, sockets: Path, environment: Mapping[str, str], port: int, touched: Callable[[], None]
) -> Services:
    """Build all that the handlers work with from the options of a gateway.

    `sockets` is the private folder for the sockets of its workers, `environment` the gateway's own environment, and
    `touched` is called at every request.
    """
    cache, home = _folder(options.cache), _folder(options.home)
    copies = cache / REMOTE
    viewer = [options.viewer_python, "-m", "cxg_proxy.viewer"]
    inherited = clean_environment(environment, options.viewer_environment)
    where: dict[str, Any] = {"cwd": sockets, "environment": inherited}
    remotes = Remotes(await _at_home(lambda: Path(os.path.realpath(copies)), copies), options.remotes)
    library = _library(options, remotes.folder, sockets)
    labels = LabelFolders(home, remotes.folder, _folder(options.labels_folder) if options.labels_folder else None)
    visits = Visits(cache / "visits.json")
    await _at_home(visits.load, None)
    # One dataset alone is opened at once, so nothing could be loaded before it.
    idle_seconds = 0 if options.dataset else options.preload_idle_seconds
    fork_server = ForkServer(viewer, idle_seconds=idle_seconds, log=_folder(options.logs) / "preload.log", **where)
    surroundings = WorkerEnvironment(sockets, _folder(options.logs), inherited, fork_server)
    command = viewer_command(viewer, functools.partial(_serve_order, options, labels))
    instances = Instances(command, surroundings, _limits(options), visits, remotes.fetch)
    summaries = Summaries(cache / "summaries", [*viewer, "summarize"], **where)
    jobs = Jobs(viewer, functools.partial(_viewer_options, options), cache / "exports", **where)
    share = functools.partial(_share, options, library)
    catalogue = Catalogue(library, options.scan_limit, summaries, visits, instances, saved=labels.saved, share=share)
    return Services(
        title=options.title,
        library=library,
        catalogue=catalogue,
        summaries=summaries,
        instances=instances,
        fork_server=fork_server,
        jobs=jobs,
        uploads=Uploads(jobs),
        recognition=Recognition(home, labels.of, summaries, jobs),
        outbox=Outbox(options.sender) if options.sender else None,
        folder=_folder(options.root or os.curdir),  # or the folder in which a person started the gateway
        home=home,
        labels=labels.of,
        alone=bool(options.dataset),
        history_limit=options.history_limit,
        token="" if options.socket else options.token or secrets.token_urlsafe(24),
        xsrf=secrets.token_urlsafe(24),
        cookie=f"cxg-proxy-{port}",
        prefix_header=options.prefix_header,
        frame_ancestors=options.frame_ancestors,
        read_only=options.read_only,
        max_body=options.max_body,
        memory_limit=options.memory_limit,
        touched=touched,
    )


async def _at_home(look: Callable[[], Result], otherwise: Result) -> Result:
    """Look at the user's home, or go on without: a gateway whose home does not answer starts all the same."""
    try:
        return await on_disk(look, place="home", patience=STARTUP_SECONDS)
    except StorageSilent:
        return otherwise


def _library(options: Gateway, copies: Path, sockets: Path) -> Library:
    if options.dataset:
        title = options.title if options.title != type(options).title.default_value else ""
        roots = root_alone(options.dataset, title, sockets)
    else:
        roots = root_folders(options.libraries, options.root)
    follow = options.follow_symlinks if options.follow_symlinks is not None else not options.read_only
    return Library(roots, follow_symlinks=follow or bool(options.dataset), copies=copies, remotes=options.remotes)


def _share(options: Gateway, library: Library, dataset: Dataset) -> str:
    """Return the link for a colleague, "" if each user has a different folder under the same name."""
    name = "" if options.dataset else dataset.name
    if options.share_prefix and dataset.library == "home" and not options.share_home:
        name = other_name(library.roots, dataset)
    return f"{options.share_prefix}view/{escape(name)}/" if name else ""


def _limits(options: Gateway) -> Limits:
    return Limits(
        most=options.max_instances,
        idle_seconds=options.idle_seconds,
        start_timeout=options.start_timeout,
        in_use_seconds=options.in_use_seconds,
    )


def _viewer_options(options: Gateway, dataset: Dataset) -> dict[str, Any]:
    return with_gateway_scripts({**options.viewer_options, **options.dataset_options.get(dataset.name, {})})


def _serve_order(options: Gateway, labels: LabelFolders, dataset: Dataset, socket: Path) -> ServeOrder:
    return ServeOrder(
        dataset=str(dataset.file),
        socket=str(socket),
        labels=labels.of(dataset),
        options=_viewer_options(options, dataset),
        read_only=options.read_only,
        memory_limit=options.memory_limit or None,
        threads=options.viewer_threads,
        diffexp_workers=options.diffexp_workers,
        diffexp_max_cells=options.diffexp_max_cells or None,
        history_limit=options.history_limit,
        cache=_folder(options.cache),
        shared_cache=_folder(options.shared_cache) if options.shared_cache else None,
        cache_limit=options.cache_limit,
        build_memory=options.build_memory,
    )


def _folder(name: str) -> Path:
    """Return the absolute path, because the workers run in another folder."""
    return Path(name).expanduser().absolute()
