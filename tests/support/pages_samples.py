"""Sample views of pages for their tests: ordinary ones, every state of them, and hostile ones."""

from __future__ import annotations

from cxg_proxy import errors
from cxg_proxy.annotations import alignment
from cxg_proxy.gateway.labels import models as labels_models
from cxg_proxy.gateway.pages import models, render
from labels_samples import NOW, entry, labels, labels_pages, offer, upload

HOSTILE = "a'b\"<script>alert(1)</script>&amp;\n\udcff{{ 1 }}"


def site(root: str = "", **changes: object) -> models.Site:
    given = {"title": "Single-cell datasets", "root": root, "xsrf": "2|token", "now": NOW}
    return models.Site(**{**given, **changes})  # type: ignore[arg-type]


def card(label: str, /, **changes: object) -> models.DatasetCard:
    given: dict[str, object] = {
        "name": f"shared/{label}.h5ad",
        "label": label,
        "folder": "shared",
        "href": f"view/shared/{label}.h5ad/",
        "bytes": 2_100_000_000,
        "modified": NOW - 3 * 86400,
        "cells": 68_000,
        "genes": 32_738,
        "embeddings": ("umap", "pca"),
        "share": f"/hub/user-redirect/cellxgene/view/shared/{label}.h5ad/",
    }
    return models.DatasetCard(**{**given, **changes})  # type: ignore[arg-type]


def row(name: str, /, **changes: object) -> models.InstanceRow:
    given: dict[str, object] = {
        "id": "i" + name,
        "name": f"shared/{name}.h5ad",
        "href": f"view/shared/{name}.h5ad/",
        "phase": "ready",
        "since": NOW - 7300,
        "used": NOW - 190,
        "memory": 412_000_000,
        "memory_limit": 4_000_000_000,
        "cpu": 12.0,
        "log": ("loading data", "GET /api/v0.2/schema 200"),
    }
    return models.InstanceRow(**{**given, **changes})  # type: ignore[arg-type]


def library(preview: str = "") -> models.LibraryView:
    cards = (
        card(
            "pbmc68k",
            preview=preview,
            phase="ready",
            instance="abc",
            labels="annotations/shared/pbmc68k.h5ad",
            labels_saved=NOW - 7200,
            opened=NOW - 600,
        ),
        card("tabula_muris_senis_droplet", preview=preview, cells=245_389, genes=20_138, bytes=4_870_000_000),
        card("covid_airways", preview=preview, embeddings=("umap", "tsne", "pca", "phate"), modified=NOW - 86400 * 400),
        card(
            "pancreas_integrated_very_long_name_of_a_dataset_v2_final", preview=preview, phase="loading", instance="d"
        ),
        card("new_upload", cells=None, genes=None, embeddings=(), pending=True, modified=NOW - 20),
        card("far_away", cells=None, genes=None, embeddings=(), bytes=None, modified=None),
        card("broken", cells=None, genes=None, embeddings=(), bytes=81_000, problem=errors.DamagedFile("broken.h5ad")),
        card("no_umap", embeddings=(), bytes=9_400_000, problem=errors.NoEmbedding("no_umap.h5ad")),
        card("naïve T-cells, 10× — réanalyse", preview=preview, cells=1_306_127, bytes=11_900_000_000),
    )
    folders = (
        models.FolderCard("atlas", "?folder=shared/atlas", 37),
        models.FolderCard("projects 2026", "?folder=shared/projects-2026", 1),
        models.FolderCard("archive", "?folder=archive", 0, problem="You may not list this directory."),
    )
    return models.LibraryView(cards, folders, total=1234, open=2, pages=11, page=2)


def opening(**changes: object) -> models.OpeningView:
    given: dict[str, object] = {
        "name": "shared/pbmc68k.h5ad",
        "label": "pbmc68k",
        "instance": "abc",
        "phase": "loading",
        "done": 0.43,
        "elapsed": 3.2,
        "expected": 7.0,
        "progress": "api/progress/shared/pbmc68k.h5ad",
    }
    return models.OpeningView(**{**given, **changes})  # type: ignore[arg-type]


def problem() -> models.ProblemView:
    log = ("Traceback (most recent call last):", *(f"  line {n} of something rather long" for n in range(18)))
    return models.ProblemView(errors.NoEmbedding("pbmc68k.h5ad", log=log), "shared/pbmc68k.h5ad", "abc")


def too_many() -> models.ProblemView:
    return models.ProblemView(errors.TooManyInstances(), "shared/pbmc68k.h5ad", running=(row("a"), row("b")))


def rows() -> tuple[models.InstanceRow, ...]:
    died = errors.NotEnoughMemory("atlas.h5ad", detail="killed by the system")
    return (
        row("pbmc68k"),
        row("atlas", phase="failed", memory=None, cpu=None, problem=died),
        row("tabula_muris_senis_droplet", phase="loading", memory=3_900_000_000, memory_limit=None, cpu=198.0, log=()),
    )


MACHINE = models.Machine(memory=25_000_000_000, available=17_300_000_000, cores=2)


def every_page(root: str = "", preview: str = "") -> dict[str, str]:
    """Return each page in each of its states, by the name of its screenshot."""
    here = site(root)
    deep = site(root or "../../../")
    return {
        "library": render.library(here, library(preview)),
        "library-empty": render.library(
            here, models.LibraryView((), roots=(("home", "/home/ana"), ("shared", "/srv/data")))
        ),
        "library-scanning": render.library(
            here, models.LibraryView(library(preview).datasets[:2], total=240, scanning=240)
        ),
        "library-limit": render.library(
            here, models.LibraryView(library(preview).datasets[:2], total=2, limit=2, sort="size")
        ),
        "library-search-none": render.library(here, models.LibraryView((), query="no & such", sort="cells")),
        "library-folder": render.library(
            here,
            models.LibraryView(
                library(preview).datasets[:1],
                crumbs=(("shared", "?folder=shared"), ("atlas", "?folder=shared/atlas")),
                folder="shared/atlas",
                total=1,
            ),
        ),
        "library-folder-empty": render.library(here, models.LibraryView((), folder="x", crumbs=(("x", ""),))),
        "opening": render.opening(deep, opening(preview=preview)),
        "opening-unknown": render.opening(
            deep, opening(phase="starting", done=None, expected=None, progress="api/progress/unknown")
        ),
        "problem": render.problem(deep, problem()),
        "problem-too-many": render.problem(deep, too_many()),
        "instances": render.instances(here, rows(), MACHINE),
        "instances-none": render.instances(here, (), MACHINE),
        **labels_pages(site(root or "../../")),
    }


def hostile_pages(text: str) -> dict[str, str]:
    """Return every page with `text` in place of every text that a file, folder, query or log can supply."""
    here = site("../", title=text, xsrf=text)
    wrong = errors.DamagedFile(text, detail=text, steps=(text, f"do `{text}` now"), log=(text,))
    bad = card("x", label=text, name=text, folder=text, embeddings=(text,) * 5, share=text, preview=text)
    ill = card("y", label=text, name=text, folder=text, problem=wrong, phase=text, instance=text)
    viewer = row("x", id=text, name=text, phase=text, log=(text,), problem=wrong)
    crumbs = ((text, ""), (text, text))
    folders = (models.FolderCard(text, text, 1), models.FolderCard(text, text, 1, problem=text))
    listing = models.LibraryView((bad, ill), folders, crumbs, query=text, folder=text, total=2, sort=text, pages=3)
    empty = models.LibraryView((), roots=((text, text), (text, text)))
    started = opening(name=text, label=text, instance=text, phase=text, progress=text, preview=text, file=text)
    bars, change = (labels_models.Bar(text, 3), labels_models.Bar(text, 0)), labels_models.Change("new", text, 2)
    told = entry(
        1, id=text, origin=text, changes=(change, labels_models.Change("changed", text)), replaced=(text,), shown=True
    )
    kept = labels_models.Category(text, 3, 2, 1, bars, 1)
    seen = (
        labels_models.Shown("labels", NOW, told, categories=(kept,)),
        labels_models.Shown("gene-sets", NOW, told, sets=bars),
    )
    days = (labels_models.Day(NOW, (told, entry(2, before=text, replaced=(text, text))), (told,)),)
    other = offer(folder=text, name=text, path=text, categories=(kept,), own=(text,))
    more: dict[str, object] = {"name": text, "label": text, "page": text, "api": text}
    labels_view = labels(**more, href=text, shown=seen, days=days, offers=(other,), said=text, waiting=text)
    column = alignment.CheckedColumn(text, 1, new=True, changed=1)
    checked = alignment.Checked(1, 1, 1, 1, (text,), (column,))
    return {
        "labels": render.labels(here, labels_view),
        "upload": render.upload(here, upload(**more, id=text, file=text, checked=checked)),
        "library": render.library(here, listing),
        "empty": render.library(here, empty),
        "nothing": render.library(here, models.LibraryView((), query=text)),
        "opening": render.opening(here, started),
        "problem": render.problem(here, models.ProblemView(wrong, text, text, (viewer,))),
        "instances": render.instances(here, (viewer,), MACHINE),
    }


VIEWER = """<!doctype html><html lang="en"><title>CELLxGENE</title><body><div id="root"></div>
<script src="cxg-proxy/saves.js"></script><script src="cxg-proxy/viewer.js"></script>"""


READY = {"phase": "ready", "library": "../../../../", "title": "pbmc68k", "changed": False, "problem": None}


READY["labels"] = "../../../../annotations/shared/x.h5ad"
