"""What the page that asks knows of labels and gene sets, and what its reply tells it: headers of ours.

The script that is added to cellxgene's page sends back with a save what it was told with what it read. So a save says
what it was made from, and no server has to remember pages: one may be restarted, or be one of two on the same home.
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
TAB = "X-Labels-Tab"  # which of the open pages asks
MERGED = "X-Labels-Merged"  # what of a save was somebody else's, as JSON: kept, removed, replaced
OWN = "X-Labels-Own"  # categories that are columns of the dataset by now, and hidden, as JSON
FIT = "X-Labels-Fit"  # when the dataset's cells have changed since labels were saved, as JSON: `Fit`

_TAB_LETTERS = 64
_NAMES_TOLD = 20  # of each kind
_LETTERS_TOLD = 60  # of each name


@dataclass(frozen=True)
class Fit:
    """How the rows of a file of labels and the cells of the dataset match."""

    cells: int  # of the dataset
    without: int  # cells of the dataset that have no row
    gone: int  # rows that are no cell of the dataset


def known() -> SeenState:
    """What the page knows; nothing, if it does not say so or nobody asks."""
    return SeenState.from_text(request.headers.get(KNOWN, "")) if has_request_context() else SeenState()


def tab() -> str:
    """Which page it is, "" if it does not say so."""
    return request.headers.get(TAB, "")[:_TAB_LETTERS] if has_request_context() else ""


def gone() -> Callable[[], bool]:
    """What tells, in any thread, whether the page that asks has broken off its request."""
    told: Any = request.environ.get("waitress.client_disconnected") if has_request_context() else None
    return told or (lambda: False)


def read(now_known: SeenState, fit: Fit | None = None, own: tuple[str, ...] = ()) -> None:
    """Note what a reply will have shown of the file, and what it has left out."""
    if has_request_context():
        g.known, g.fit, g.own = now_known, fit, own


def saved(now_known: SeenState, outcome: Outcome) -> None:
    """Note what became of a save."""
    if has_request_context():
        g.known, g.outcome = now_known, outcome


def told() -> dict[str, str]:
    """The headers that tell the page so."""
    headers: dict[str, str] = {}
    there: SeenState | None = g.get("known")
    if there is not None:
        # The values of single columns: only these are known to the page afterwards.
        names = request.args.getlist("annotation-name") if request.method == "GET" else []
        headers[KNOWN] = str(there.only(names) if names else there)
    outcome: Outcome | None = g.get("outcome")
    if outcome and (outcome.kept or outcome.removed or outcome.replaced):
        headers[MERGED] = _json({name: _short(getattr(outcome, name)) for name in ("kept", "removed", "replaced")})
    fit: Fit | None = g.get("fit")
    if fit and (fit.without or fit.gone):
        headers[FIT] = _json(asdict(fit))
    if own := g.get("own"):
        headers[OWN] = _json(_short(own))
    return headers


def _short(names: tuple[str, ...]) -> list[str]:
    return [name[:_LETTERS_TOLD] for name in names[:_NAMES_TOLD]]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
