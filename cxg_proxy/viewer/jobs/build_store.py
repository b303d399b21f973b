"""Makes the store of one dataset in a process of its own: for a worker that shows it, or for `cxg-proxy prepare`."""

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


_UNLIMITED = 2**62  # what an administrator prepares only the disk bounds
_PATIENCE_SECONDS = 2.0  # less than those who end it have
_NICE = 10  # whoever looks at something now goes before
_STEP_SECONDS = 0.25
_LEAST_BYTES = 64_000_000
_PROGRAM_BYTES = 300_000_000  # what Python and its libraries take, of a limit that holds for all


@dataclass(frozen=True)
class BuildOrder:
    """Which store is wanted, and where; sizes in bytes."""

    dataset: str
    cache: Path
    shared: Path | None = None
    limit: int | None = None  # of the cache; None for the usual one
    memory: int = BUILD_MEMORY_BYTES
    layer: str | None = None
    as_shown: bool = False  # the layer that the options beside the dataset name, if they do
    for_others: bool = False  # who may read the dataset may read its store


def prepare(order: BuildOrder) -> int:
    """Have the store there, telling how far it is; returns the exit status.

    Before the last step comes a line `{"made": …, "cells": …, "genes": …, "bytes": …}`.
    """
    say = child.channel()
    say(Step(Phase.STARTING, version=__version__).line())
    child.log_to_stderr()
    ending = threading.Event()
    child.on_leash(lambda: _end(ending))
    os.nice(_NICE)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it computes nothing, and idle threads count against a limit of memory
    found = child.outcome(lambda: _prepare(order, say, ending), order.dataset)
    if isinstance(found, Problem):
        say(Step(Phase.FAILED, problem=found).line())
    elif found is not None:
        say(json.dumps(found).encode() + b"\n")
        say(Step(Phase.READY).line())
    child.leave(0 if isinstance(found, dict) else 1)


def _end(ending: threading.Event) -> None:
    """Break off, and leave nothing behind if that can be done soon; else the next builder clears up."""
    ending.set()
    time.sleep(_PATIENCE_SECONDS)
    child.leave(1)


def _prepare(order: BuildOrder, say: Callable[[bytes], None], ending: threading.Event) -> dict[str, Any] | None:
    """What is known of the store that is there now; None if it was broken off."""
    dataset = os.path.abspath(order.dataset)
    # Once: whoever can change what a link leads to must not have one file read and the readers of another one asked.
    source = os.path.realpath(dataset) if order.for_others else dataset
    h5ad.check(source)
    layer = _layer(order, dataset)
    try:
        from cxg_proxy.viewer.store import build, eviction, permissions  # noqa: PLC0415 - heavy, and perhaps not installed
        from cxg_proxy.viewer.store.cache import Stores  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ViewerMissing(sys.executable, detail=str(error)) from error
    limit = order.limit
    if limit is None:
        limit = _UNLIMITED if order.for_others else max(1, eviction.usual_limit(order.cache))
    memory = _within_limit(order.memory)

    def finish(made: Store) -> None:
        from cxg_proxy.viewer.cellxgene import cache_warming  # noqa: PLC0415 - heavier still

        cache_warming.make(made, source, layer, ending.is_set)

    stores = Stores(
        order.cache,
        order.shared,
        limit=limit,
        memory=memory,
        for_others=order.for_others,
        finish=finish if order.for_others else None,
    )
    tell = _Telling(say)
    try:
        there = stores.make(source, layer, tell, ending.is_set)
    except build.Cancelled:
        return None
    if tell.heard:
        if order.for_others:  # else as many may build one of their own from this file at this moment
            _forget(source)
    elif order.for_others and os.stat(there.folder).st_uid == os.geteuid():  # beside another's, nothing is written
        finish(there)  # what another version has made beside it is made anew
        permissions.share(there.folder, source, layer, there.folder.name)
    cells, genes = there.shape
    return {"made": tell.heard, "cells": cells, "genes": genes, "bytes": eviction.size(there.folder)}


def _layer(order: BuildOrder, dataset: str) -> str | None:
    if order.layer is None and order.as_shown:
        layer: str | None = options.gather(dataset, {}).get("layer")
        return layer
    return order.layer


class _Telling:
    """Says the share that is done, now and then."""

    def __init__(self, say: Callable[[bytes], None]):
        self._say = say
        self.heard = False  # something had to be done
        self._next = 0.0

    def __call__(self, done: float) -> None:
        self.heard = True
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _STEP_SECONDS
            self._say(Step(Phase.LOADING, done=done).line())


def _within_limit(memory: int) -> int:
    """As much memory as is asked for, or as a limit leaves that holds for this process too."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return memory if limit == resource.RLIM_INFINITY else min(memory, max(_LEAST_BYTES, limit - _PROGRAM_BYTES))


def _forget(dataset: str) -> None:
    """The file has been read and will not be again: what the system remembers of it is of more use for the store."""
    with contextlib.suppress(OSError, AttributeError), open(dataset, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
