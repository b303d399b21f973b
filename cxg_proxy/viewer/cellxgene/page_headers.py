"""The headers that the page and the worker exchange about the state of labels and gene sets.

The script `saves.js`, which is added to cellxgene's page, sends back with a save the state that it received with what
it read. A save thus names the state it is based on, and no worker has to remember pages: a worker may be restarted, or
be one of two on the same home.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from flask import g, has_request_context, request

from cxg_proxy.annotations import Outcome
from cxg_proxy.annotations.merge import SeenState

KNOWN = "X-Labels-Known"  # `SeenState` as text, in both directions
TAB = "X-Labels-Tab"  # which of the open pages sends the request
MERGED = "X-Labels-Merged"  # names that others had changed before a save, as JSON: kept, removed, replaced
OWN = "X-Labels-Own"  # categories that are hidden since they are now columns of the dataset, as JSON
FIT = "X-Labels-Fit"  # a `Fit` as JSON, if the dataset's cells have changed since the labels were saved

_TAB_LETTERS = 64
_NAMES_TOLD = 20  # of each kind
_LETTERS_TOLD = 60  # of each name


@dataclass(frozen=True)
class Fit:
    """How the rows of a label file match the cells of the dataset."""

    cells: int  # of the dataset
    without: int  # cells of the dataset that have no row
    gone: int  # rows whose cell is not in the dataset


def seen_state() -> SeenState:
    """Return the state that the page knows; an empty one outside a request or if the request does not give it."""
    return SeenState.from_text(request.headers.get(KNOWN, "")) if has_request_context() else SeenState()


def tab() -> str:
    """Return the identifier of the page, or "" if the request does not give it."""
    return request.headers.get(TAB, "")[:_TAB_LETTERS] if has_request_context() else ""


def gone() -> Callable[[], bool]:
    """Return a function that tells, in any thread, whether the client has disconnected from this request."""
    disconnected: Any = request.environ.get("waitress.client_disconnected") if has_request_context() else None
    return disconnected or (lambda: False)


def read(seen: SeenState, fit: Fit | None = None, hidden: tuple[str, ...] = ()) -> None:
    """Record, for the headers, the state that this reply shows, how it fits, and the columns it leaves out."""
    if has_request_context():
        g.seen, g.fit, g.hidden = seen, fit, hidden


def saved(seen: SeenState, outcome: Outcome) -> None:
    """Record, for the headers, the outcome of a save."""
    if has_request_context():
        g.seen, g.outcome = seen, outcome


def reply_headers() -> dict[str, str]:
    """Return the headers with what `read` and `saved` recorded for this request."""
    headers: dict[str, str] = {}
    seen: SeenState | None = g.get("seen")
    if seen is not None:
        # After a request for single columns the page knows only these.
        names = request.args.getlist("annotation-name") if request.method == "GET" else []
        headers[KNOWN] = str(seen.only(names) if names else seen)
    outcome: Outcome | None = g.get("outcome")
    if outcome and (outcome.kept or outcome.removed or outcome.replaced):
        headers[MERGED] = _json({name: _short(getattr(outcome, name)) for name in ("kept", "removed", "replaced")})
    fit: Fit | None = g.get("fit")
    if fit and (fit.without or fit.gone):
        headers[FIT] = _json(asdict(fit))
    if hidden := g.get("hidden"):
        headers[OWN] = _json(_short(hidden))
    return headers


def _short(names: tuple[str, ...]) -> list[str]:
    return [name[:_LETTERS_TOLD] for name in names[:_NAMES_TOLD]]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
