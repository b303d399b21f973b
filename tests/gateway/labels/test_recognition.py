"""Labels of datasets that were moved, or whose cells have changed, through a real gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import pytest

from cxg_proxy import annotations
from gateways import PAGE, Gateway
from labels_gateway import (  # noqa: F401 - fixtures
    CELLS,
    change,
    csv,
    facts,
    labels_folder,
    labels_gateway,
    moved_to,
    page,
    running_before,
    saved_labels,
    where,
)
from waiting import until_now

pytestmark = pytest.mark.timeout(120)


def test_labels_of_a_dataset_that_was_renamed_are_offered_and_taken_over_on_request(
    gateway: Gateway, folder: Path
) -> None:
    names = tuple(anndata.read_h5ad(folder / "data" / "moved.h5ad").obs_names)
    record = annotations.DatasetRecord("old.h5ad", "/gone/old.h5ad", len(names), annotations.identifiers_digest(names))
    old = annotations.named(folder / "labels", "/gone/old.h5ad")
    annotations.write(old, annotations.LABELS, csv(names, old="T"), record=lambda: record)
    address = gateway.open("data/moved.h5ad")
    until_now(lambda: gateway.get(address + "cxg-proxy/state").json["offer"])
    state = gateway.get(address + "cxg-proxy/state").json
    assert state["labels"] == "../../../../annotations/data/moved.h5ad"
    assert annotations.saved(where(folder, "moved")) is None  # nothing is adopted without a click
    text = page(gateway, "moved.h5ad")
    assert "old.h5ad" in text
    assert "Use these labels" in text
    for wrong in ("", "..", "../../etc", where(folder, "grown").name):
        assert change(gateway, "moved.h5ad", "adopt", folder=wrong).status == 404
    to = moved_to(change(gateway, "moved.h5ad", "adopt", folder=old.name))
    assert "now this dataset" in gateway.get(to, **PAGE).text
    assert annotations.read(where(folder, "moved"), annotations.LABELS) == csv(names, old="T")
    described = annotations.read_record(where(folder, "moved"))
    assert described
    assert (described.name, described.identifiers) == ("moved.h5ad", record.identifiers)
    assert annotations.read(old, annotations.LABELS) == csv(names, old="T")
    assert gateway.get(address + "cxg-proxy/state").json["offer"] is False


def test_labels_that_the_dataset_has_as_columns_are_not_taken_over_for_the_viewer_could_not_show_them(
    gateway: Gateway, folder: Path
) -> None:
    file = folder / "data" / "annotated.h5ad"
    data = anndata.read_h5ad(folder / "data" / "fine.h5ad")
    data.obs_names = [f"cell {name}" for name in data.obs_names]
    names = tuple(data.obs_names)
    data.obs["old"] = "T"
    data.write_h5ad(file)
    record = annotations.DatasetRecord(
        "before.h5ad", "/gone/before.h5ad", len(names), annotations.identifiers_digest(names)
    )
    old = annotations.named(folder / "labels", "/gone/before.h5ad")
    annotations.write(old, annotations.LABELS, csv(names, old="T"), record=lambda: record)
    until_now(lambda: facts(gateway, "annotated.h5ad")["looking"] is False)
    assert facts(gateway, "annotated.h5ad")["offers"] == []  # there is nothing in them that could be used
    address = gateway.open("data/annotated.h5ad")
    assert gateway.get(address + "cxg-proxy/state").json["offer"] is False
    annotations.write(old, annotations.LABELS, csv(names, old="B", new="x"))
    (offer,) = facts(gateway, "annotated.h5ad")["offers"]
    assert ([each["name"] for each in offer["categories"]], offer["own"]) == (["new"], ["old"])
    assert "as columns of this file have these names: <bdi>old</bdi>" in page(gateway, "annotated.h5ad")
    moved_to(change(gateway, "annotated.h5ad", "adopt", folder=old.name))
    assert annotations.read(where(folder, "annotated"), annotations.LABELS) == csv(names, new="x")
    schema = gateway.get(address + "api/v0.2/schema").json["schema"]["annotations"]["obs"]["columns"]
    assert {"old", "new"} <= {column["name"] for column in schema}


def test_the_numbers_are_told_when_the_cells_have_changed_since_the_labels_were_saved(
    gateway: Gateway, folder: Path
) -> None:
    place, cells = where(folder, "grown"), (*CELLS[:25], "gone")
    record = annotations.DatasetRecord("grown.h5ad", "/x/grown.h5ad", 26, annotations.identifiers_digest(cells))
    annotations.write(place, annotations.LABELS, csv(cells, type="T"), record=lambda: record)
    until_now(lambda: facts(gateway, "grown.h5ad")["fit"])
    text = page(gateway, "grown.h5ad").replace("\u202f", " ")
    assert "25 of its 40 cells have labels, 15 have none, and 1 labelled cells are not in it" in " ".join(text.split())


def test_the_card_of_a_dataset_leads_to_its_labels(gateway: Gateway, saved: Path) -> None:
    def card() -> Any:
        found = gateway.get("/api/datasets?q=fine").json["datasets"]
        return found[0] if found else {}

    until_now(lambda: card().get("labels_saved"))
    assert card()["labels"] == "annotations/data/fine.h5ad"
    assert gateway.get("/?q=fine", **PAGE).text.count('href="annotations/data/fine.h5ad"') == 2
