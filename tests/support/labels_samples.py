"""Sample views of the pages of labels, in every state, for their tests."""

from __future__ import annotations

from dataclasses import replace

from cxg_proxy.annotations import alignment
from cxg_proxy.gateway.labels import models as labels_models
from cxg_proxy.gateway.pages import models, render

NOW = 1_780_000_000.0
CHANGES = ("first", "rows", "removed", "new", "changed")


def entry(hours: float, /, **changes: object) -> labels_models.Entry:
    given: dict[str, object] = {
        "id": f"20260528T202640.{round(hours * 10):03}Z-labels-0123456789abcdef-1200",
        "kind": "labels",
        "time": NOW - 3600 * hours,
        "size": 18_400,
        "rows": 700,
        "origin": "saved",
        "changes": (labels_models.Change("changed", "cell type", 120),),
    }
    return labels_models.Entry(**{**given, **changes})  # type: ignore[arg-type]


LABELS = "Dendritic|CD14+ Monocyte|CD8+/CD45RA+ Naive Cytotoxic|CD19+ B|CD34+|CD56+ NK 🧬|خلايا تائية|γδ T cells".split(
    "|"
)


def category(name: str = "cell type", labels: int = len(LABELS)) -> labels_models.Category:
    names = LABELS[:labels] + [
        f"a label that says a lot about these cells, number {n}" for n in range(labels - len(LABELS))
    ]
    bars = [labels_models.Bar(each, round(240 / (n + 1))) for n, each in enumerate(names[:50])]
    return labels_models.Category(name, 1400, sum(bar.count for bar in bars), labels, bars, max(0, labels - 50))


def timeline() -> tuple[labels_models.Day, ...]:
    made, seen = labels_models.Change("new", "cell type", 512), labels_models.Change("rows", count=650)
    genes: dict[str, object] = {"kind": "gene-sets", "size": 2_100}
    today = (
        entry(0.2, current=True, origin="restored"),
        entry(0.5, replaced=("cell type", "quality"), before=entry(0.6).id, changes=()),
        entry(
            0.6,
            lost=True,
            changes=(labels_models.Change("removed", "doublet"), labels_models.Change("changed", "x" * 90, 3)),
        ),
        entry(1.5, **genes, current=True, changes=(labels_models.Change("changed", "cytotoxic", 3),)),
    )
    folded = tuple(entry(2 + n / 10, changes=(labels_models.Change("changed", "quality", n + 1),)) for n in range(5))
    before = (
        entry(20, origin="uploaded", changes=(made, labels_models.Change("new", "quality", 700)), more=12),
        entry(23, **genes, changes=(labels_models.Change("first"), labels_models.Change("new", "cytotoxic", 9))),
        entry(26, origin="found", changes=(seen,)),
        entry(27, origin="adopted", changes=(labels_models.Change("first"), made)),
    )
    return (labels_models.Day(today[0].time, today, folded), labels_models.Day(before[0].time, before))


def labels(**changes: object) -> labels_models.LabelsView:
    sets = [labels_models.Bar("cytotoxic", 12), labels_models.Bar("cell cycle, G2M", 43), labels_models.Bar("empty", 0)]
    days = timeline()
    given: dict[str, object] = {
        "name": "shared/pbmc68k.h5ad",
        "label": "pbmc68k",
        "href": "view/shared/pbmc68k.h5ad/",
        "page": "annotations/shared/pbmc68k.h5ad",
        "api": "api/annotations/shared/pbmc68k.h5ad",
        "shown": (
            labels_models.Shown(
                "labels", NOW - 720, days[0].entries[0], categories=(category(), category("quality", 2))
            ),
            labels_models.Shown("gene-sets", NOW - 5400, days[0].entries[3], sets=sets),
        ),
        "days": days,
        "versions": 13,
        "saved": ("labels", "gene-sets"),
    }
    return labels_models.LabelsView(**{**given, **changes})  # type: ignore[arg-type]


def labels_version() -> labels_models.LabelsView:
    chosen = entry(20, shown=True, origin="uploaded")
    first, (head, *rest) = timeline()[0], timeline()[1].entries
    days = (first, labels_models.Day(head.time, (chosen, *rest)))
    shown = labels_models.Shown("labels", chosen.time, chosen, current=False, categories=(category("cell type", 1000),))
    return labels(shown=(shown,), days=days, older=(labels_models.Day(NOW - 5e6, (entry(1400),)),))


def offer(**changes: object) -> labels_models.Offer:
    given: dict[str, object] = {
        "folder": "pbmc_old-01234567",
        "name": "pbmc_old.h5ad",
        "path": "/home/ana/data/pbmc_old.h5ad",
        "saved": NOW - 3 * 86400,
        "cells": 700,
        "categories": (category(), category("quality", 3)),
        "gene_sets": 2,
        "own": ("louvain", "<i>phase"),
    }
    return labels_models.Offer(**{**given, **changes})  # type: ignore[arg-type]


def nothing_saved(**changes: object) -> labels_models.LabelsView:
    return labels(**{"shown": (), "days": (), "versions": 0, "saved": (), **changes})


def upload(**changes: object) -> labels_models.UploadView:
    columns = [
        alignment.CheckedColumn("cell type", 12, new=False, changed=88),
        alignment.CheckedColumn("doublet", 2, new=True, changed=0),
        alignment.CheckedColumn("a category with a name that is rather long for what it says", 1, new=False, changed=0),
    ]
    cells = ["AAACATACAACCAC-1", "AAACATTGAGCTAC-1", "=cmd|' /C calc'!A0", "x" * 80, "细胞"]
    view = labels_models.UploadView(
        name="shared/pbmc68k.h5ad",
        label="pbmc68k",
        page="annotations/shared/pbmc68k.h5ad",
        api="api/annotations/shared/pbmc68k.h5ad",
        id="0123456789abcdef",
        file="my labels (2).csv",
        checked=alignment.Checked(612, 31, 88, 700, cells, columns),
    )
    return replace(view, **changes)  # type: ignore[arg-type]


def labels_pages(site: models.Site) -> dict[str, str]:
    """Return the pages of labels in each of their states."""
    fit = alignment.Checked(612, 4, 88, 700)
    damaged = labels_models.Shown("labels", NOW, None, problem="The row of 'A' has 2 fields, but the header has 3.")
    reader = replace(site, read_only=True)
    return {
        "labels": render.labels(site, labels()),
        "labels-version": render.labels(site, labels_version()),
        "labels-nothing": render.labels(site, nothing_saved()),
        "labels-offered": render.labels(site, nothing_saved(offers=(offer(), offer(saved=None, cells=None)))),
        "labels-looking": render.labels(site, nothing_saved(looking=True)),
        "labels-restored": render.labels(site, labels(said="restored", of=NOW - 72_000, fit=fit, offers=(offer(),))),
        "labels-read-only": render.labels(reader, labels(offers=(offer(),), said="uploaded", large=True)),
        "labels-damaged": render.labels(site, labels(shown=(damaged,), waiting="x", said="adopted")),
        "upload": render.upload(site, upload()),
        "upload-fits": render.upload(site, upload(checked=alignment.Checked(700, 0, 0, 700))),
    }
