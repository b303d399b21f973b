"""The warming of the reply cache: it makes the replies that every visitor fetches when a dataset is prepared."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask import Flask

from cxg_proxy.annotations import LIMIT
from cxg_proxy.errors import Problem
from cxg_proxy.viewer import options
from cxg_proxy.viewer.dataset import metadata
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.dataset.metadata import Metadata
from cxg_proxy.viewer.progress import Report
from cxg_proxy.viewer.store.origin import Origin
from cxg_proxy.viewer.store.store import Store

from . import compression, reply_tags
from .application import load
from .reply_cache import _JSON, BINARY, Replies

_log = logging.getLogger(__name__)


def make(store: Store, origin: Origin, cancelled: Callable[[], bool]) -> None:
    """Fill the reply cache of a store that is built for others, for the options in the file beside the dataset.

    No other user may be able to write to the store: they could put a link where the replies are written. A failure is
    only logged, since a store without replies is whole; the first visitor then waits for them.
    """
    try:
        _make(store, origin, cancelled)
    except (Problem, OSError, LookupError) as reason:
        _log.warning("Its first visitor will wait a little longer: %s", reason)


def _make(store: Store, origin: Origin, cancelled: Callable[[], bool]) -> None:
    def read(*_: object) -> tuple[Metadata, Expression]:  # from this very store, or another one might be built
        return metadata.of_store(store), Expression.of_store(store)

    chosen = {**options.gather(origin.path, {}), **({} if origin.layer is None else {"layer": origin.layer})}
    with tempfile.TemporaryDirectory() as nobody:
        application = load(
            origin.path,
            Path(nobody) / "labels",
            chosen,
            read_only=True,
            history_limit=LIMIT,
            diffexp_workers=1,
            diffexp_max_cells=None,
            read=read,
        )
        prepare(application, store.replies, report=_tell_nobody, cancelled=cancelled)


def _tell_nobody(*_: object) -> None:
    """Report nothing, since the progress bar of the build has already ended."""


def prepare(application: Flask, folder: Path, *, report: Report, cancelled: Callable[[], bool]) -> None:
    """Keep in a folder the replies that every visitor fetches, in each of the `KEPT` encodings.

    `report` receives the share that is done, from 0 to 1; `cancelled` is called before each reply. A reply that cannot
    be made or kept is left out, and made when a visitor requests it.
    """
    Replies.of(application).keep_in(folder)
    client = application.test_client()
    targets = _targets(client.get("/api/v0.2/schema").get_json()["schema"])
    for number, target in enumerate(targets):
        for encoding in compression.KEPT:
            if cancelled():
                return
            accept = {"Accept": f"{BINARY}, {_JSON}", "Accept-Encoding": encoding}
            client.get(f"/api/v0.2/{target}", headers=accept).close()
        report((number + 1) / len(targets))


def _targets(schema: Mapping[str, Any]) -> list[str]:
    """Return the targets that the page will request; columns of labels may be among them, but are not kept."""
    layouts = [urlencode({"layout-name": each["name"]}) for each in schema["layout"]["obs"]]
    columns = [urlencode({reply_tags.COLUMN: each["name"]}) for each in schema["annotations"]["obs"]["columns"]]
    genes = urlencode({reply_tags.COLUMN: schema["annotations"]["var"]["index"]})
    return [
        "colors",
        *(f"layout/obs?{query}" for query in layouts),
        *(f"annotations/obs?{query}" for query in columns),
        f"annotations/var?{genes}",
    ]
