"""More categories or gene sets than a header can speak of: a page that knows the whole file says only that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from cxg_proxy import annotations
from cxg_proxy.annotations import GENE_SETS, LABELS, SeenState
from cxg_proxy.annotations.merge import MAX_PARTS
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv, read_gene_sets, read_labels
from pages_samples import VIEWER
from pages_site import Server, a_browser, a_server, a_tab, no_leftovers_yet  # noqa: F401 - fixtures

MANY = MAX_PARTS + 5
WHOLE = "0123456789abcdef"


def through_the_page(seen: SeenState) -> SeenState:
    """What comes back with a save when this was told with what the page read."""
    return SeenState.from_text(str(seen))


def test_a_gene_set_that_is_deleted_among_hundreds_is_gone_and_one_that_is_edited_is_nobody_elses(
    tmp_path: Path,
) -> None:
    sets = {f"set {number}": GeneSet(f"set {number}", "", (("CD3E", ""),)) for number in range(MANY)}
    known = SeenState()
    for changed in ({}, {"set 7": None}, {"set 8": GeneSet("set 8", "", (("CD8A", ""),))}):
        sets = {name: each for name, each in {**sets, **changed}.items() if each is not None}
        content = gene_sets_csv(sets.values()).encode()
        outcome = annotations.write(tmp_path, GENE_SETS, content, seen=through_the_page(known))
        assert (outcome.kept, outcome.removed, outcome.replaced) == ((), (), ())
        assert read_gene_sets(annotations.read(tmp_path, GENE_SETS) or b"") == sets
        known = SeenState.of(sets, outcome.whole)


def test_a_category_that_is_deleted_among_hundreds_is_gone(tmp_path: Path) -> None:
    columns = {f"category {number}": ("x", "y") for number in range(MANY)}
    content = labels_csv(LabelTable("index", ("a", "b"), columns)).encode()
    first = annotations.write(tmp_path, LABELS, content)
    known = through_the_page(SeenState.of(columns, first.whole))
    del columns["category 7"]
    annotations.write(tmp_path, LABELS, labels_csv(LabelTable("index", ("a", "b"), columns)).encode(), seen=known)
    assert read_labels(annotations.read(tmp_path, LABELS) or b"").columns == columns


def test_what_somebody_else_has_added_to_hundreds_stays(tmp_path: Path) -> None:
    sets = {f"set {number}": GeneSet(f"set {number}") for number in range(MANY)}
    first = annotations.write(tmp_path, GENE_SETS, gene_sets_csv(sets.values()).encode())
    known = through_the_page(SeenState.of(sets, first.whole))
    annotations.write(tmp_path, GENE_SETS, gene_sets_csv([*sets.values(), GeneSet("theirs")]).encode())
    outcome = annotations.write(tmp_path, GENE_SETS, gene_sets_csv(sets.values()).encode(), seen=known)
    assert outcome.kept == ("theirs",)
    assert "theirs" in read_gene_sets(annotations.read(tmp_path, GENE_SETS) or b"")


@pytest.mark.parametrize("number", [MAX_PARTS, MANY])
def test_a_page_that_has_read_hundreds_of_columns_one_by_one_says_what_fits_a_header(
    number: int, server: Server, tab: Callable[..., Page]
) -> None:
    columns = {str(each): ("x",) for each in range(number)}
    known = SeenState.of(columns, WHOLE)
    told = [known if number <= MAX_PARTS else SeenState(WHOLE), *(known.only([name]) for name in columns), known]
    server.data = [(200, {"X-Labels-Known": str(each)}, {}) for each in told]
    server.state, server.pages["x.h5ad"] = None, VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    with page.expect_request(lambda request: request.method == "PUT") as save:
        page.evaluate(
            """async (number) => {
                await fetch("api/v0.2/schema");
                for (let column = 0; column < number; column++)
                    await fetch(`api/v0.2/annotations/obs?annotation-name=${column}`);
                await fetch("api/v0.2/annotations/obs", { method: "PUT", body: "" });
            }""",
            number,
        )
    said = SeenState.from_text(save.value.headers["x-labels-known"])
    assert said == (known if number <= MAX_PARTS else SeenState(WHOLE))
