"""The loading of a dataset: from its store, or from the file itself while the store is built."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cxg_proxy.errors import Problem
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin

from . import metadata
from .expression import Expression
from .metadata import Metadata

_log = logging.getLogger(__name__)


def load_dataset(
    path: str, layer: str | None, stores: Stores | None, tell: Callable[[float | None, str], None]
) -> tuple[Metadata, Expression]:
    """Return the metadata and the expression, which may still be in preparation; raises the file's Problem.

    `tell` receives the progress of the preparation (see `Expression.in_preparation`).
    """
    origin = Origin.of(path, layer)  # before anything is read, so that later changes of the file are noticed
    there = None if stores is None else stores.find(origin)
    if there is not None:
        try:
            return metadata.of_store(there), Expression.of_store(there)
        except Problem as problem:  # the store's disk failed or was just cleared; the file itself is still there
            _log.warning("The store of %s cannot be used: %s", path, problem.sentence)
    return metadata.read(origin), Expression.in_preparation(stores, origin, tell=tell)
