"""A viewer that does not save: what was saved is seen, and nothing invites a person to make what would be lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anndata
import pytest
from browser_fixtures import (
    Person,
    a_browser,  # noqa: F401 - a fixture
    a_profile,  # noqa: F401 - a fixture
    shot,
    wait_drawn,
)
from playwright.sync_api import Page, expect
from test_two_tabs import TOKEN, gateway

from cxg_proxy import annotations
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv
from datasets import write_dataset

pytestmark = pytest.mark.timeout(300)

SAID = "Gene sets cannot be changed in this viewer."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets with labels and a gene set; of one, gene sets are not saved."""
    place = tmp_path_factory.mktemp("read-only")
    for name in ("cells", "no sets"):
        file = write_dataset(place / "data" / f"{name}.h5ad", cells=700)
        where = annotations.directory(place / "home", file)
        names = tuple(anndata.read_h5ad(file).obs_names)
        table = LabelTable("index", names, {"mine": ("T", "B") * 350})
        annotations.write(where, annotations.LABELS, labels_csv(table).encode())
        sets = gene_sets_csv([GeneSet("known", "", (("0", ""), ("1", "")))])
        annotations.write(where, annotations.GENE_SETS, sets.encode())
    (place / "data" / "no sets.h5ad.cxg.yaml").write_text("disable_gene_sets_save: true\n")
    return place


@pytest.fixture(scope="module")
def read_only(folder: Path) -> Iterator[str]:
    with gateway(folder, "read-only", "--read-only") as url:
        yield url


@pytest.fixture(scope="module")
def writable(folder: Path) -> Iterator[str]:
    with gateway(folder, "writable") as url:
        yield url


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """The gateways outlive a test."""


def opened(profile: Person, url: str, name: str) -> Page:
    page = profile()
    page.goto(f"{url}view/data/{name}.h5ad/?token={TOKEN}")
    wait_drawn(page)
    return page


def see_that_gene_sets_cannot_be_changed(page: Page) -> None:
    create = page.get_by_test_id("open-create-geneset-dialog")
    expect(create).to_be_disabled()
    expect(create).to_have_attribute("title", SAID)
    page.get_by_test_id("known:geneset-expand").click()
    genes = page.locator("[data-testclass=gene-set-genes]")
    expect(genes.get_by_test_id("0:gene-label")).to_be_visible()
    expect(genes.get_by_test_id("delete-from-geneset:0")).to_be_hidden()
    expect(page.get_by_test_id("known:add-new-gene-to-geneset")).to_be_hidden()
    expect(page.get_by_test_id("known:see-actions")).to_be_hidden()
    page.get_by_test_id("known:colorby-entire-geneset").click()
    page.locator("[data-testclass=geneset-heading-expand]").click()  # React makes what is below it anew
    page.locator("[data-testclass=geneset-heading-expand]").click()
    expect(page.get_by_test_id("known:geneset-expand")).to_be_visible()
    expect(page.get_by_test_id("known:see-actions")).to_be_hidden()
    page.get_by_test_id("gene-search").fill("2")
    page.get_by_test_id("suggest-menu-item-2").click()
    page.get_by_test_id("delete-from-geneset:2").click()  # a gene that is only looked at
    create.click(force=True)
    expect(page.get_by_test_id("create-geneset-input")).to_have_count(0)


def test_a_read_only_viewer_shows_labels_and_gene_sets_and_has_no_way_to_make_or_change_any(
    read_only: str, profile: Person
) -> None:
    page = opened(profile, read_only, "cells")
    page.get_by_test_id("mine:category-expand").click()
    expect(page.get_by_test_id("categorical-value-select-mine-T")).to_have_count(1)
    see_that_gene_sets_cannot_be_changed(page)
    expect(page.get_by_test_id("open-annotation-dialog")).to_have_count(0)
    expect(page.get_by_test_id("mine:see-actions")).to_have_count(0)
    shot(page, "read-only")


def test_where_only_gene_sets_are_not_saved_labels_can_be_made(writable: str, profile: Person) -> None:
    page = opened(profile, writable, "no~20sets")
    see_that_gene_sets_cannot_be_changed(page)
    expect(page.get_by_test_id("open-annotation-dialog")).to_be_enabled()
    expect(page.get_by_test_id("mine:see-actions")).to_be_visible()
    shot(page, "gene-sets-read-only")


def test_where_gene_sets_are_saved_they_can_be_made_and_changed(writable: str, profile: Person) -> None:
    page = opened(profile, writable, "cells")
    page.get_by_test_id("known:geneset-expand").click()
    expect(page.get_by_test_id("open-create-geneset-dialog")).to_be_enabled()
    expect(page.get_by_test_id("known:see-actions")).to_be_visible()
    expect(page.get_by_test_id("known:add-new-gene-to-geneset")).to_be_visible()
    expect(page.get_by_test_id("delete-from-geneset:0")).to_be_visible()
