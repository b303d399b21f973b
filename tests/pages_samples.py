"""Sample views for the tests of pages: ordinary ones, every state of them, and hostile ones."""

from __future__ import annotations

from dataclasses import replace

from cxg_proxy import errors, labelled, pages

NOW = 1_780_000_000.0
HOSTILE = "a'b\"<script>alert(1)</script>&amp;\n\udcff{{ 1 }}"


def site(root: str = "", **changes: object) -> pages.Site:
    given = {"title": "Single-cell datasets", "root": root, "xsrf": "2|token", "now": NOW}
    return pages.Site(**{**given, **changes})  # type: ignore[arg-type]


def card(label: str, /, **changes: object) -> pages.DatasetCard:
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
    return pages.DatasetCard(**{**given, **changes})  # type: ignore[arg-type]


def row(name: str, /, **changes: object) -> pages.InstanceRow:
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
    return pages.InstanceRow(**{**given, **changes})  # type: ignore[arg-type]


def library(preview: str = "") -> pages.LibraryView:
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
        pages.FolderCard("atlas", "?folder=shared/atlas", 37),
        pages.FolderCard("projects 2026", "?folder=shared/projects-2026", 1),
        pages.FolderCard("archive", "?folder=archive", 0, problem="You may not list this directory."),
    )
    return pages.LibraryView(cards, folders, total=1234, open=2, pages=11, page=2)


def opening(**changes: object) -> pages.OpeningView:
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
    return pages.OpeningView(**{**given, **changes})  # type: ignore[arg-type]


def problem() -> pages.ProblemView:
    log = ("Traceback (most recent call last):", *(f"  line {n} of something rather long" for n in range(18)))
    return pages.ProblemView(errors.NoEmbedding("pbmc68k.h5ad", log=log), "shared/pbmc68k.h5ad", "abc")


def too_many() -> pages.ProblemView:
    return pages.ProblemView(errors.TooManyInstances(), "shared/pbmc68k.h5ad", running=(row("a"), row("b")))


def rows() -> tuple[pages.InstanceRow, ...]:
    died = errors.NotEnoughMemory("atlas.h5ad", detail="killed by the system")
    return (
        row("pbmc68k"),
        row("atlas", phase="failed", memory=None, cpu=None, problem=died),
        row("tabula_muris_senis_droplet", phase="loading", memory=3_900_000_000, memory_limit=None, cpu=198.0, log=()),
    )


MACHINE = pages.Machine(memory=25_000_000_000, available=17_300_000_000, cores=2)


CHANGES = ("first", "rows", "removed", "new", "changed")


def entry(hours: float, /, **changes: object) -> labelled.Entry:
    given: dict[str, object] = {
        "id": f"20260528T202640.{round(hours * 10):03}Z-labels-0123456789abcdef-1200",
        "kind": "labels",
        "time": NOW - 3600 * hours,
        "size": 18_400,
        "rows": 700,
        "origin": "saved",
        "changes": (labelled.Change("changed", "cell type", 120),),
    }
    return labelled.Entry(**{**given, **changes})  # type: ignore[arg-type]


LABELS = "Dendritic|CD14+ Monocyte|CD8+/CD45RA+ Naive Cytotoxic|CD19+ B|CD34+|CD56+ NK 🧬|خلايا تائية|γδ T cells".split(
    "|"
)


def category(name: str = "cell type", labels: int = len(LABELS)) -> labelled.Category:
    names = LABELS[:labels] + [
        f"a label that says a lot about these cells, number {n}" for n in range(labels - len(LABELS))
    ]
    bars = [labelled.Bar(each, round(240 / (n + 1))) for n, each in enumerate(names[:50])]
    return labelled.Category(name, 1400, sum(bar.count for bar in bars), labels, bars, max(0, labels - 50))


def timeline() -> tuple[labelled.Day, ...]:
    made, seen = labelled.Change("new", "cell type", 512), labelled.Change("rows", count=650)
    genes: dict[str, object] = {"kind": "gene-sets", "size": 2_100}
    today = (
        entry(0.2, current=True, origin="restored"),
        entry(0.5, replaced=("cell type", "quality"), before=entry(0.6).id, changes=()),
        entry(0.6, lost=True, changes=(labelled.Change("removed", "doublet"), labelled.Change("changed", "x" * 90, 3))),
        entry(1.5, **genes, current=True, changes=(labelled.Change("changed", "cytotoxic", 3),)),
    )
    folded = tuple(entry(2 + n / 10, changes=(labelled.Change("changed", "quality", n + 1),)) for n in range(5))
    before = (
        entry(20, origin="uploaded", changes=(made, labelled.Change("new", "quality", 700)), more=12),
        entry(23, **genes, changes=(labelled.Change("first"), labelled.Change("new", "cytotoxic", 9))),
        entry(26, origin="found", changes=(seen,)),
        entry(27, origin="adopted", changes=(labelled.Change("first"), made)),
    )
    return (labelled.Day(today[0].time, today, folded), labelled.Day(before[0].time, before))


def labels(**changes: object) -> labelled.LabelsView:
    sets = [labelled.Bar("cytotoxic", 12), labelled.Bar("cell cycle, G2M", 43), labelled.Bar("empty", 0)]
    days = timeline()
    given: dict[str, object] = {
        "name": "shared/pbmc68k.h5ad",
        "label": "pbmc68k",
        "href": "view/shared/pbmc68k.h5ad/",
        "page": "annotations/shared/pbmc68k.h5ad",
        "api": "api/annotations/shared/pbmc68k.h5ad",
        "shown": (
            labelled.Shown("labels", NOW - 720, days[0].entries[0], categories=(category(), category("quality", 2))),
            labelled.Shown("gene-sets", NOW - 5400, days[0].entries[3], sets=sets),
        ),
        "days": days,
        "versions": 13,
        "saved": ("labels", "gene-sets"),
    }
    return labelled.LabelsView(**{**given, **changes})  # type: ignore[arg-type]


def labels_version() -> labelled.LabelsView:
    chosen = entry(20, shown=True, origin="uploaded")
    first, (head, *rest) = timeline()[0], timeline()[1].entries
    days = (first, labelled.Day(head.time, (chosen, *rest)))
    shown = labelled.Shown("labels", chosen.time, chosen, current=False, categories=(category("cell type", 1000),))
    return labels(shown=(shown,), days=days, older=(labelled.Day(NOW - 5e6, (entry(1400),)),))


def offer(**changes: object) -> labelled.Offer:
    given: dict[str, object] = {
        "folder": "pbmc_old-01234567",
        "name": "pbmc_old.h5ad",
        "path": "/home/ana/data/pbmc_old.h5ad",
        "saved": NOW - 3 * 86400,
        "cells": 700,
        "categories": (category(), category("quality", 3)),
        "gene_sets": 2,
    }
    return labelled.Offer(**{**given, **changes})  # type: ignore[arg-type]


def nothing_saved(**changes: object) -> labelled.LabelsView:
    return labels(**{"shown": (), "days": (), "versions": 0, "saved": (), **changes})


def upload(**changes: object) -> labelled.UploadView:
    columns = [
        labelled.CheckedColumn("cell type", 12, new=False, changed=88),
        labelled.CheckedColumn("doublet", 2, new=True, changed=0),
        labelled.CheckedColumn("a category with a name that is rather long for what it says", 1, new=False, changed=0),
    ]
    cells = ["AAACATACAACCAC-1", "AAACATTGAGCTAC-1", "=cmd|' /C calc'!A0", "x" * 80, "细胞"]
    view = labelled.UploadView(
        name="shared/pbmc68k.h5ad",
        label="pbmc68k",
        page="annotations/shared/pbmc68k.h5ad",
        api="api/annotations/shared/pbmc68k.h5ad",
        id="0123456789abcdef",
        file="my labels (2).csv",
        checked=labelled.Checked(612, 31, 88, 700, cells, columns),
    )
    return replace(view, **changes)  # type: ignore[arg-type]


def labels_pages(site: pages.Site) -> dict[str, str]:
    """The pages of labels in each of their states."""
    fit = labelled.Checked(612, 4, 88, 700)
    damaged = labelled.Shown("labels", NOW, None, problem="The row of 'A' has 2 fields, but the header has 3.")
    reader = replace(site, read_only=True)
    return {
        "labels": pages.labels(site, labels()),
        "labels-version": pages.labels(site, labels_version()),
        "labels-nothing": pages.labels(site, nothing_saved()),
        "labels-offered": pages.labels(site, nothing_saved(offers=(offer(), offer(saved=None, cells=None)))),
        "labels-looking": pages.labels(site, nothing_saved(looking=True)),
        "labels-restored": pages.labels(site, labels(said="restored", of=NOW - 72_000, fit=fit, offers=(offer(),))),
        "labels-read-only": pages.labels(reader, labels(offers=(offer(),), said="uploaded", large=True)),
        "labels-damaged": pages.labels(site, labels(shown=(damaged,), waiting="x", said="adopted")),
        "upload": pages.upload(site, upload()),
        "upload-fits": pages.upload(site, upload(checked=labelled.Checked(700, 0, 0, 700))),
    }


def every_page(root: str = "", preview: str = "") -> dict[str, str]:
    """Each page in each of its states, by a name for the screenshot."""
    here = site(root)
    deep = site(root or "../../../")
    return {
        "library": pages.library(here, library(preview)),
        "library-empty": pages.library(
            here, pages.LibraryView((), roots=(("home", "/home/ana"), ("shared", "/srv/data")))
        ),
        "library-scanning": pages.library(
            here, pages.LibraryView(library(preview).datasets[:2], total=240, scanning=240)
        ),
        "library-limit": pages.library(
            here, pages.LibraryView(library(preview).datasets[:2], total=2, limit=2, sort="size")
        ),
        "library-search-none": pages.library(here, pages.LibraryView((), query="no & such", sort="cells")),
        "library-folder": pages.library(
            here,
            pages.LibraryView(
                library(preview).datasets[:1],
                crumbs=(("shared", "?folder=shared"), ("atlas", "?folder=shared/atlas")),
                folder="shared/atlas",
                total=1,
            ),
        ),
        "library-folder-empty": pages.library(here, pages.LibraryView((), folder="x", crumbs=(("x", ""),))),
        "opening": pages.opening(deep, opening(preview=preview)),
        "opening-unknown": pages.opening(
            deep, opening(phase="starting", done=None, expected=None, progress="api/progress/unknown")
        ),
        "problem": pages.problem(deep, problem()),
        "problem-too-many": pages.problem(deep, too_many()),
        "instances": pages.instances(here, rows(), MACHINE),
        "instances-none": pages.instances(here, (), MACHINE),
        **labels_pages(site(root or "../../")),
    }


def hostile_pages(text: str) -> dict[str, str]:
    """Every page with every text a file, folder, query or log can bring replaced by `text`."""
    here = site("../", title=text, xsrf=text)
    wrong = errors.DamagedFile(text, detail=text, steps=(text, f"do `{text}` now"), log=(text,))
    bad = card("x", label=text, name=text, folder=text, embeddings=(text,) * 5, share=text, preview=text)
    ill = card("y", label=text, name=text, folder=text, problem=wrong, phase=text, instance=text)
    viewer = row("x", id=text, name=text, phase=text, log=(text,), problem=wrong)
    crumbs = ((text, ""), (text, text))
    folders = (pages.FolderCard(text, text, 1), pages.FolderCard(text, text, 1, problem=text))
    listing = pages.LibraryView((bad, ill), folders, crumbs, query=text, folder=text, total=2, sort=text, pages=3)
    empty = pages.LibraryView((), roots=((text, text), (text, text)))
    started = opening(name=text, label=text, instance=text, phase=text, progress=text, preview=text, file=text)
    bars, change = (labelled.Bar(text, 3), labelled.Bar(text, 0)), labelled.Change("new", text, 2)
    told = entry(
        1, id=text, origin=text, changes=(change, labelled.Change("changed", text)), replaced=(text,), shown=True
    )
    kept = labelled.Category(text, 3, 2, 1, bars, 1)
    seen = (labelled.Shown("labels", NOW, told, categories=(kept,)), labelled.Shown("gene-sets", NOW, told, sets=bars))
    days = (labelled.Day(NOW, (told, entry(2, before=text, replaced=(text, text))), (told,)),)
    other = offer(folder=text, name=text, path=text, categories=(kept,))
    more: dict[str, object] = {"name": text, "label": text, "page": text, "api": text}
    labels_view = labels(**more, href=text, shown=seen, days=days, offers=(other,), said=text, waiting=text)
    column = labelled.CheckedColumn(text, 1, new=True, changed=1)
    checked = labelled.Checked(1, 1, 1, 1, (text,), (column,))
    return {
        "labels": pages.labels(here, labels_view),
        "upload": pages.upload(here, upload(**more, id=text, file=text, checked=checked)),
        "library": pages.library(here, listing),
        "empty": pages.library(here, empty),
        "nothing": pages.library(here, pages.LibraryView((), query=text)),
        "opening": pages.opening(here, started),
        "problem": pages.problem(here, pages.ProblemView(wrong, text, text, (viewer,))),
        "instances": pages.instances(here, (viewer,), MACHINE),
    }
