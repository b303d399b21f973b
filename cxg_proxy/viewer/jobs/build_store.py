"""The job that builds the store of one dataset, for a worker that shows it or for `cxg-proxy prepare`."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxg_proxy import __version__
from cxg_proxy.errors import Problem, ViewerMissing
from cxg_proxy.steps import Phase, Step
from cxg_proxy.viewer import child, options
from cxg_proxy.viewer.source import h5ad
from cxg_proxy.worker_options import BUILD_MEMORY_BYTES

if TYPE_CHECKING:
    from cxg_proxy.viewer.store.store import Store


_UNLIMITED = 2**62  # only the disk limits the stores that an administrator prepares
_PATIENCE_SECONDS = 2.0  # less than the process that ends this one waits
_NICE = 10  # viewers that are in use take precedence
_LEAST_BYTES = 64_000_000
_PROGRAM_BYTES = 300_000_000  # the share of Python and its libraries in a memory limit


@dataclass(frozen=True)
class BuildOrder:
    """The store to build, and where; sizes are in bytes."""

    dataset: str
    cache: Path
    shared: Path | None = None
    limit: int | None = None  # of the cache; None for the default, `eviction.usual_limit`
    memory: int = BUILD_MEMORY_BYTES
    layer: str | None = None
    as_shown: bool = False  # without a layer, use the one that the options beside the dataset name, if any
    for_others: bool = False  # let all users who may read the dataset read its store


def prepare(order: BuildOrder) -> int:
    """Build the store unless it exists, reporting progress, and end the process: with status 0 if the store exists.

    Before the last step it writes a line `{"made": …, "cells": …, "genes": …, "bytes": …}`.
    """
    say = child.channel()
    say(Step(Phase.STARTING, version=__version__).line())
    child.log_to_stderr()
    ending = threading.Event()
    child.end_with_parent(lambda: _end(ending))
    os.nice(_NICE)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it computes nothing, and its idle threads count against a memory limit
    outcome = child.outcome(lambda: _prepare(order, say, ending), order.dataset)
    if isinstance(outcome, Problem):
        say(Step(Phase.FAILED, problem=outcome).line())
    elif outcome is not None:
        say(json.dumps(outcome).encode() + b"\n")
        say(Step(Phase.READY).line())
    child.leave(0 if isinstance(outcome, dict) else 1)


def _end(ending: threading.Event) -> None:
    """Cancel the build and end the process: after it has cleaned up, or after 2 s, leaving that to the next builder."""
    ending.set()
    time.sleep(_PATIENCE_SECONDS)
    child.leave(1)


def _prepare(order: BuildOrder, say: Callable[[bytes], None], ending: threading.Event) -> dict[str, Any] | None:
    """Build the store unless it exists, and return its description, or None if the build was cancelled."""
    dataset = os.path.abspath(order.dataset)
    # The link is resolved only once, or a user who changes its target could have the data of one file shared with the
    # readers of another.
    source = os.path.realpath(dataset) if order.for_others else dataset
    h5ad.check(source)
    layer = _layer(order, dataset)
    try:
        from cxg_proxy.viewer.store import build, eviction, permissions  # noqa: PLC0415 - heavy, and perhaps not installed
        from cxg_proxy.viewer.store.cache import Stores  # noqa: PLC0415 - as above
        from cxg_proxy.viewer.store.origin import Origin  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ViewerMissing(sys.executable, detail=str(error)) from error
    origin = Origin.of(source, layer)
    limit = order.limit
    if limit is None:
        limit = _UNLIMITED if order.for_others else max(1, eviction.usual_limit(order.cache))
    memory = _within_limit(order.memory)

    def finish(store: Store) -> None:
        from cxg_proxy.viewer.cellxgene import cache_warming  # noqa: PLC0415 - even heavier

        cache_warming.make(store, origin, ending.is_set)

    stores = Stores(
        order.cache,
        order.shared,
        limit=limit,
        memory=memory,
        for_others=order.for_others,
        finish=finish if order.for_others else None,
    )
    reporter = _Reporter(say)
    try:
        store = stores.make(origin, reporter, ending.is_set)
    except build.Cancelled:
        return None
    if reporter.reported:
        if order.for_others:  # otherwise other users may be building their own stores from this file now
            _forget(source)
    elif order.for_others and os.stat(store.folder).st_uid == os.geteuid():  # another user's store is left unchanged
        finish(store)  # replies that another version has made are made anew
        permissions.share(store.folder, origin)
    cells, genes = store.shape
    return {"made": reporter.reported, "cells": cells, "genes": genes, "bytes": eviction.size(store.folder)}


def _layer(order: BuildOrder, dataset: str) -> str | None:
    if order.layer is None and order.as_shown:
        layer: str | None = options.gather(dataset, {}).get("layer")
        return layer
    return order.layer


class _Reporter:
    """Reports the share that is done."""

    def __init__(self, say: Callable[[bytes], None]):
        self._say = say
        self.reported = False  # whether any progress was reported, so that the store was not there before

    def __call__(self, done: float) -> None:
        self.reported = True
        self._say(Step(Phase.LOADING, done=done).line())


def _within_limit(memory: int) -> int:
    """Return `memory`, or less if the memory limit of this process leaves less (RLIMIT_DATA), in bytes."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return memory if limit == resource.RLIM_INFINITY else min(memory, max(_LEAST_BYTES, limit - _PROGRAM_BYTES))


def _forget(dataset: str) -> None:
    """Drop the file from the system's page cache, which is of more use to the store, as it will not be read again."""
    with contextlib.suppress(OSError, AttributeError), open(dataset, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
