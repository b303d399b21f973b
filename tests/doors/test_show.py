"""`cxg_proxy.show` in real notebooks: JupyterLab and Notebook 7 in a real Chromium, with real kernels and viewers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_fixtures import PATIENCE, Person, a_browser, a_profile, shot, wait_drawn  # noqa: F401 - fixtures
from jupyter_fixtures import TOKEN, JupyterServer, jupyter_server, wait_until
from notebook_pages import VIEWER, cells, notebook, run_all, viewer_in
from playwright.sync_api import Page, expect

from cxg_proxy.notebook import display
from datasets import write_dataset

HOSTILE = [
    "</script><script>alert(1)</script>/<!-- a?b#c %41 `${1}` 'q' \"x\".h5ad",
    "line\nbreak \u2028 Zellen für Ana.h5ad",
    os.fsdecode(b"bytes \xff\xfe.h5ad"),
]
SETTINGS = "lab/api/settings/@jupyterlab/apputils-extension:"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's folder with datasets, beside it one that no library holds, and room for a viewer of each."""
    folder = tmp_path_factory.mktemp("show")
    for name in ("pbmc.h5ad", "other.h5ad", *HOSTILE):
        write_dataset(folder / "work" / name, cells=300)
    write_dataset(folder / "elsewhere" / "far.h5ad", cells=300)
    (folder / "etc").mkdir()
    (folder / "etc" / "cxg_proxy_config.py").write_text("c.Gateway.max_instances = 20\n")
    return folder / "work"


def setting(server: JupyterServer, name: str, value: dict[str, str]) -> None:
    """What a person chooses in JupyterLab's settings."""
    server.client.put(f"{SETTINGS}{name}", json={"raw": json.dumps(value)}).raise_for_status()


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(
        tmp_path_factory.mktemp("jupyter"), root, JUPYTER_CONFIG_PATH=str(root.parent / "etc")
    ) as running:
        running.get("cellxgene/").raise_for_status()
        setting(running, "notification", {"fetchNews": "false"})  # else it asks, over the outputs
        yield running


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """The server outlives a test; its own end is checked when it ends."""


def opened(page: Page, server: JupyterServer, name: str, app: str = "lab/workspaces/{}/tree") -> Page:
    """The page of a notebook, with nothing else open."""
    page.goto(f"{server.url}{app.format(name)}/{name}.ipynb?token={TOKEN}")
    return page


def write(root: Path, name: str, *sources: str, output: dict[str, str] | None = None) -> str:
    (root / f"{name}.ipynb").write_text(json.dumps(notebook(*sources, output=output)))
    return name


def test_a_cell_shows_the_drawn_viewer_in_its_output_and_again_when_it_runs_again(
    server: JupyterServer, root: Path, profile: Person
) -> None:
    name = write(
        root,
        "two",
        "import cxg_proxy\ncxg_proxy.show('pbmc.h5ad', height=520)",
        f"cxg_proxy.show({str(root / 'other.h5ad')!r}, height=400)",
    )
    page = opened(profile(), server, name)
    run_all(page)
    for n, (title, height) in enumerate([("pbmc", 520), ("other", 400)]):
        cell = cells(page).nth(n)
        cell.locator(VIEWER).scroll_into_view_if_needed()
        expect(cell.locator(VIEWER)).to_have_attribute("title", f"cellxgene: {title}")
        wait_drawn(viewer_in(cell))
        assert viewer_in(cell).locator("html").evaluate("each => each.scrollWidth <= innerWidth")
        box = cell.locator(VIEWER).bounding_box()
        assert box is not None
        assert round(box["height"]) == height
    cells(page).first.scroll_into_view_if_needed()
    shot(page, "show-lab")
    run_all(page)
    cells(page).first.scroll_into_view_if_needed()
    wait_drawn(viewer_in(cells(page).first))
    expect(page.locator(VIEWER)).to_have_count(2)
    assert len(server.get("cellxgene/api/instances").json()["instances"]) == 2


def test_the_viewer_in_an_output_is_used_by_keyboard(server: JupyterServer, root: Path, profile: Person) -> None:
    name = write(root, "keys", "import cxg_proxy\ncxg_proxy.show('pbmc.h5ad')")
    page = opened(profile(), server, name)
    run_all(page)
    wait_drawn(viewer_in(cells(page).first))
    page.get_by_role("link", name="Open in a tab of its own").focus()
    page.keyboard.press("Tab")  # into the frame
    inside = page.locator(VIEWER)
    expect(inside).to_be_focused()
    with page.expect_popup() as tab:
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
    wait_drawn(tab.value)
    assert tab.value.url == f"{server.url}cellxgene/view/home/pbmc.h5ad/"


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_drawn_too(name: str, server: JupyterServer, root: Path, profile: Person) -> None:
    source = f"import os, cxg_proxy\ncxg_proxy.show(os.fsdecode({os.fsencode(name)!r}), height=450)"
    page = opened(profile(), server, write(root, "hostile", source))
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    run_all(page)
    wait_drawn(viewer_in(cells(page).first))
    shot(page, f"show-hostile-{HOSTILE.index(name)}")


def test_a_file_outside_says_what_to_do_and_is_shown_once_it_is_done(
    server: JupyterServer, root: Path, profile: Person
) -> None:
    far = root.parent / "elsewhere" / "far.h5ad"
    page = opened(profile(), server, write(root, "outside", f"import cxg_proxy\ncxg_proxy.show({str(far)!r})"))
    run_all(page)
    alert = cells(page).first.get_by_role("alert")
    expect(alert).to_contain_text(f"{far}: cellxgene does not show the folder of this file (it shows home: {root})")
    expect(alert).to_contain_text(f"ln -s {far} {root}/")
    shot(page, "show-outside")
    (root / "far.h5ad").symlink_to(far)
    find = "cellxgene/api/find"
    wait_until(lambda: server.get(find, params={"path": str(far)}).status_code == 200, "the link in the list")
    cells(page).first.get_by_role("button", name="Try again").focus()
    page.keyboard.press("Enter")  # which JupyterLab would take for itself
    wait_drawn(viewer_in(cells(page).first))
    expect(page.locator(VIEWER)).to_be_focused()


def test_in_a_dark_theme_the_texts_have_its_colour(server: JupyterServer, root: Path, profile: Person) -> None:
    setting(server, "themes", {"theme": "JupyterLab Dark"})
    near = root.parent / "elsewhere" / "near.h5ad"
    near.write_bytes(b"")
    page = opened(profile(), server, write(root, "dark", f"import cxg_proxy\ncxg_proxy.show({str(near)!r})"))
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=PATIENCE)
    run_all(page)
    output = cells(page).first.locator(".jp-OutputArea-output")
    expect(output.get_by_role("alert")).to_be_visible()
    colour = "each => getComputedStyle(each).color"
    for each in output.locator("p:visible, li, button").all():
        assert each.evaluate(colour) == output.evaluate(colour)
    shot(page, "show-dark")
    setting(server, "themes", {})


def test_a_notebook_that_is_not_trusted_shows_the_text(server: JupyterServer, root: Path, profile: Person) -> None:
    file = root / "pbmc.h5ad"
    left = {"text/html": display._output(file, 700), "text/plain": display._text(file)}
    page = opened(profile(), server, write(root, "foreign", "cxg_proxy.show('pbmc.h5ad')", output=left))
    expect(cells(page).first.get_by_text("Elsewhere, run this at a terminal")).to_be_visible()
    expect(cells(page).first.get_by_text(f"cxg-proxy {file}")).to_be_visible()
    expect(page.locator(VIEWER)).to_have_count(0)
    shot(page, "show-not-trusted")


def test_notebook_7_shows_it_too(server: JupyterServer, root: Path, profile: Person) -> None:
    name = write(root, "seven", "import cxg_proxy\ncxg_proxy.show('pbmc.h5ad', height=500)")
    page = opened(profile(), server, name, app="notebooks")
    run_all(page)
    wait_drawn(viewer_in(cells(page).first))
    shot(page, "show-notebook-7")
