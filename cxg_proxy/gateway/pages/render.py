"""The rendering of pages: plain data in, HTML out. Links are relative to the page; no file or clock is read here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado.template import Loader

from cxg_proxy import __version__, formatting
from cxg_proxy.errors import Problem
from cxg_proxy.gateway.labels.models import LabelsView, UploadView

from .models import InstanceRow, LibraryView, Machine, OpeningView, ProblemView, Site


def library(site: Site, view: LibraryView) -> str:
    """Return the page with the list of datasets."""
    view = _showable(view)
    page = view.page if view.page > 1 else ""
    here = {"q": view.query, "folder": view.folder, "sort": view.sort if view.sort != "name" else ""}
    return _render(
        "library.html",
        site,
        view=view,
        link=lambda **changes: _query({**here, **changes}),
        back=_query({**here, "page": page}),
    )


def opening(site: Site, view: OpeningView) -> str:
    """Return the page shown while a viewer starts; it reloads itself where scripts are disabled."""
    return _render("opening.html", site, view=view, phases=json.dumps(formatting.PHASES))


def problem(site: Site, view: ProblemView) -> str:
    """Return the page of a problem: what happened, to which file, and what to do next."""
    return _render("problem.html", site, view=view, problem=view.problem, back=view.href)


def instances(site: Site, rows: Sequence[InstanceRow], machine: Machine) -> str:
    """Return the page of running viewers, with Stop buttons."""
    return _render("instances.html", site, rows=rows, machine=machine, back="instances")


def labels(site: Site, view: LabelsView) -> str:
    """Return the page of one dataset's labels and gene sets: their versions, and the content of one of them."""
    return _render("annotations.html", site, view=view)


def upload(site: Site, view: UploadView) -> str:
    """Return the page that shows how an uploaded table fits, before anything of it is saved."""
    return _render("upload.html", site, view=view)


def _render(template: str, site: Site, **values: Any) -> str:
    site = _showable(site)
    shown = {name: _showable(value) for name, value in values.items()}
    page = _templates().load(template).generate(site=site, home=site.root or "./", version=__version__, **shown)
    return page.decode()


@cache
def _templates() -> Loader:
    return Loader(str(Path(__file__).parent / "templates"), autoescape="xhtml_escape", namespace=formatting.FOR_PAGES)


def _query(values: dict[str, Any]) -> str:
    """Return a link to the list, relative to the gateway's root, without the parts that are "" or None."""
    parts = {name: value for name, value in values.items() if value not in ("", None)}
    return "?" + urlencode(parts)


def _showable(value: Any) -> Any:
    """Return the same data with every text cleaned, so that any file name can be part of a page."""
    if isinstance(value, str):
        return formatting.clean(value)
    if isinstance(value, Problem):
        return _showable({**value.to_json(), "what": value.what})
    if isinstance(value, dict):
        return {_showable(key): _showable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_showable(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        texts = {name: item for name, item in vars(value).items() if item and not isinstance(item, (int, float))}
        shown = {name: clean for name, item in texts.items() if (clean := _showable(item)) is not item}
        return replace(value, **shown) if shown else value
    return value
