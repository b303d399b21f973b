"""Makes the replies that every visitor fetches when a dataset is prepared for many, so that none of them waits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from cxg_proxy.annotations import LIMIT
from cxg_proxy.errors import Problem
from cxg_proxy.viewer import options
from cxg_proxy.viewer.dataset import metadata
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.dataset.metadata import Rest
from cxg_proxy.viewer.store.store import Store

from . import reply_cache
from .application import load

_log = logging.getLogger(__name__)


def make(there: Store, dataset: str, layer: str | None, cancelled: Callable[[], bool]) -> None:
    """Keep them beside a store that is made for others, for the options beside the dataset, unless they are there.

    Nobody else may be able to write to the store: they could put a link where the replies are written. What fails is
    left to the first visitor: a store without them is whole.
    """
    try:
        _make(there, dataset, layer, cancelled)
    except (Problem, OSError, LookupError) as reason:
        _log.warning("Its first visitor will wait a little longer: %s", reason)


def _make(there: Store, dataset: str, layer: str | None, cancelled: Callable[[], bool]) -> None:
    def read(*_: object) -> tuple[Rest, Expression]:  # from this very store, or another one might be made
        return metadata.of_store(there), Expression.of_store(there)

    chosen = {**options.gather(dataset, {}), **({} if layer is None else {"layer": layer})}
    with tempfile.TemporaryDirectory() as nobody:
        application = load(
            dataset,
            Path(nobody) / "labels",
            chosen,
            read_only=True,
            history_limit=LIMIT,
            diffexp_workers=1,
            diffexp_max_cells=None,
            read=read,
        )
        reply_cache.prepare(application, there.replies, report=_tell_nobody, cancelled=cancelled)


def _tell_nobody(*_: object) -> None:
    """Its bar is at its end already."""
