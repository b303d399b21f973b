"""What the menu of an .h5ad file and the command palette offer, in JupyterLab and in Notebook 7."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_fixtures import (
    Person,
    a_browser,  # noqa: F401 - a fixture
    a_profile,  # noqa: F401 - a fixture
    shot,
    wait_drawn,
)
from jupyter_fixtures import TOKEN, JupyterServer, jupyter_server
from lab_fixtures import (
    HOSTILE,
    Lab,
    Opened,
    a_home,  # noqa: F401 - a fixture
    a_lab,  # noqa: F401 - a fixture
    a_server,  # noqa: F401 - a fixture
    settings,
)
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.timeout(180)

OPEN, COPY, INSERT = "Open cellxgene in New Browser Tab", "Copy cellxgene Share Link", "Insert Labels into Notebook"


def copied(page: Page) -> str:
    """What is in the clipboard, once JupyterLab says that something is."""
    toast = page.locator(".Toastify__toast").filter(has_text="Copied")
    expect(toast).to_be_visible()
    toast.get_by_role("button").first.click()  # or the next one would be taken for it
    expect(toast).to_have_count(0)
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_the_viewer_opens_in_a_browser_tab_of_its_own(lab: Opened) -> None:
    mine = lab()
    with mine.page.expect_popup() as opened:
        mine.menu(HOSTILE, OPEN)
    wait_drawn(opened.value)
    assert opened.value.url.startswith(f"{mine.server.url}cellxgene/view/home/")
    assert opened.value.evaluate("window.opener") is None


def test_the_link_that_is_copied_opens_the_viewer(lab: Opened) -> None:
    mine = lab()
    mine.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    mine.menu("pbmc.h5ad", COPY)
    expect(mine.page.get_by_text("Copied http")).to_be_visible()
    shot(mine.page, "lab-copied")
    link = copied(mine.page)
    assert link == f"{mine.server.url}cellxgene/view/home/pbmc.h5ad/"
    other = mine.page.context.new_page()
    other.goto(link)
    wait_drawn(other)


def test_plain_http_has_no_clipboard_interface_and_the_link_is_copied_all_the_same(lab: Opened) -> None:
    mine = lab()
    mine.page.evaluate("Object.defineProperty(window, 'isSecureContext', { get: () => false })")
    mine.page.evaluate("Object.defineProperty(navigator.clipboard, 'writeText', { value: undefined })")
    mine.page.context.grant_permissions(["clipboard-read"])
    mine.menu("pbmc.h5ad", COPY)
    assert copied(mine.page) == f"{mine.server.url}cellxgene/view/home/pbmc.h5ad/"


def test_a_file_that_is_away_for_a_moment_is_found_again_by_itself(lab: Opened, home: Path) -> None:
    mine = lab()
    (home / "again.h5ad").write_bytes((home / "pbmc.h5ad").read_bytes())
    mine.page.get_by_role("button", name="Refresh").first.click()
    mine.files("again.h5ad").dblclick()
    mine.viewer()
    expect(mine.state).to_have_text("Running")
    aside = (home / "again.h5ad").rename(home / "aside")
    expect(mine.state).to_have_text("No such dataset", timeout=20_000)
    aside.rename(home / "again.h5ad")
    expect(mine.state).to_have_text("Running", timeout=90_000)


def test_the_palette_means_the_tab_that_is_shown_or_else_the_chosen_file(lab: Opened) -> None:
    mine = lab()
    mine.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    mine.command(COPY)
    expect(mine.dialog).to_contain_text("No dataset is chosen")
    mine.page.keyboard.press("Enter")
    mine.files("data").dblclick()
    mine.files("deep.h5ad").click()
    mine.command(COPY)
    assert copied(mine.page).endswith("/view/home/data/deep.h5ad/")
    mine.files("deep.h5ad").dblclick()
    mine.viewer()
    mine.page.get_by_role("button", name="/", exact=True).or_(mine.page.locator(".jp-BreadCrumbs-home")).first.click()
    mine.files("pbmc.h5ad").click()
    mine.shown.get_by_role("link").focus()
    mine.command(COPY)
    assert copied(mine.page).endswith("/view/home/data/deep.h5ad/")


def test_below_a_hub_the_link_leads_each_visitor_to_their_own_server(lab: Opened) -> None:
    mine = lab()
    mine.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = {"title": "x", "file": "/x", "view": "view/a/x.h5ad/", "phase": "closed", "running": False}
    share = "/hub/user-redirect/cellxgene/view/a/x.h5ad/"
    mine.page.route("**/cellxgene/api/find*", lambda route: route.fulfill(json={**found, "share": share}))
    mine.menu("pbmc.h5ad", COPY)
    assert copied(mine.page) == mine.server.url.rstrip("/") + share
    mine.page.route("**/cellxgene/api/find*", lambda route: route.fulfill(json={**found, "share": ""}))
    mine.menu("pbmc.h5ad", COPY)
    expect(mine.dialog).to_contain_text("Only you have this dataset")
    shot(mine.page, "lab-not-shareable")


def test_the_lines_that_read_the_labels_go_below_the_active_cell(lab: Opened, home: Path) -> None:
    (home / "analysis.ipynb").write_text(json.dumps(notebook("first = 1", "last = 2")))
    mine = lab()
    mine.menu("pbmc.h5ad", INSERT)
    expect(mine.dialog).to_contain_text("No notebook is open")
    shot(mine.page, "lab-no-notebook")
    mine.page.keyboard.press("Enter")
    mine.files("analysis.ipynb").dblclick()
    mine.page.locator(".jp-Notebook-cell").nth(1).wait_for()
    mine.page.locator(".jp-Notebook-cell").first.click()
    mine.menu(HOSTILE, INSERT)
    expect(mine.page.locator(".jp-Notebook-cell")).to_have_count(3)
    shot(mine.page, "lab-labels")
    before, ours, after = mine.page.evaluate(SOURCES)
    assert (before, after) == ("first = 1", "last = 2")
    imported, labels = ours.splitlines()
    assert imported == "import cxg_proxy"
    path, place = eval(labels.removeprefix("labels = "), {"cxg_proxy": Said()})  # noqa: S307 - ours
    assert path == str(home / HOSTILE)
    assert place.endswith("/own place")  # where this server keeps labels


SOURCES = "jupyterapp.shell.currentWidget.model.sharedModel.cells.map(cell => cell.source)"


class Said:
    """Stands for the module in a line of Python: gives back what it would read."""

    def labels(self, path: str, *, home: str) -> tuple[str, str]:
        return path, home


def notebook(*sources: str) -> dict[str, object]:
    made = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**made, "id": f"c{n}", "source": source} for n, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}  # else it asks for one
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize("entry", [OPEN, COPY, INSERT])
def test_what_cannot_be_done_is_explained_in_the_gateways_words(lab: Opened, entry: str) -> None:
    mine = lab()
    mine.menu("outside.h5ad", entry)
    expect(mine.dialog).to_contain_text("cellxgene does not show the folder of this file")
    assert len(mine.page.context.pages) == 1


def test_who_tries_again_by_keyboard_stays_where_they_were(lab: Opened) -> None:
    mine = lab()
    mine.files("outside.h5ad").dblclick()
    told = mine.shown.get_by_role("alert")
    told.evaluate("node => { node.title = 'before' }")
    told.get_by_role("button", name="Try Again").press("Enter")
    expect(told).not_to_have_attribute("title", "before")
    expect(told.get_by_role("button", name="Try Again")).to_be_focused()


# --- Notebook 7 ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebooks(home: Path) -> Iterator[JupyterServer]:
    """Notebook 7, which shows the same files."""
    folder = home.parent / "notebook7"
    with jupyter_server(folder, home, app="notebook", JUPYTER_CONFIG_PATH=str(settings(folder / "etc"))) as running:
        yield running


@pytest.fixture
def tree(notebooks: JupyterServer, profile: Person) -> Lab:
    """Its list of files."""
    lab = Lab(profile(), notebooks, f"{notebooks.url}tree")
    lab.page.goto(f"{lab.address}?token={TOKEN}")
    lab.files("pbmc.h5ad").wait_for()
    return lab


def test_notebook_7_opens_a_dataset_on_a_page_of_its_own(tree: Lab) -> None:
    with tree.page.expect_popup() as opened:
        tree.files("pbmc.h5ad").dblclick()
    page = Lab(opened.value, tree.server, "")
    page.viewer()
    expect(page.state).to_have_text("Running")
    shot(page.page, "notebook7-page")


def test_notebook_7_has_the_menu_of_a_dataset_without_what_needs_a_notebook(tree: Lab) -> None:
    tree.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tree.files("pbmc.h5ad").click(button="right")
    expect(tree.page.get_by_text(COPY, exact=True)).to_be_visible()
    expect(tree.page.get_by_text(INSERT, exact=True)).to_be_hidden()
    shot(tree.page, "notebook7-menu")
    tree.page.keyboard.press("Escape")
    tree.menu("pbmc.h5ad", COPY)
    assert copied(tree.page).endswith("/cellxgene/view/home/pbmc.h5ad/")
    with tree.page.expect_popup() as opened:
        tree.menu("pbmc.h5ad", OPEN)
    wait_drawn(opened.value)
