"""The script of a notebook's output in a real Chromium: the viewer, a problem, or the text that stands there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from notebook_output import NAMES, file_at, output
from pages_site import ARTEFACTS, a_browser, a_tab, no_leftovers_yet  # noqa: F401 - fixtures
from waiting import until_now

SERVER = "http://jupyter.test"
BASE = "/user/ana@lab/"
FOUND = {"title": "pbmc", "view": "view/home/pbmc.h5ad/", "phase": "closed"}
PROBLEM = {
    "sentence": "/data/<b>pbmc</b>.h5ad: cellxgene does not show the folder of this file.",
    "steps": ["Move it: `mv /data/pbmc.h5ad /home/ana/`.", "Or ask your administrator."],
}


class Notebook:
    """A page as JupyterLab is one: it has a server, and puts outputs into itself with their scripts."""

    def __init__(self, page: Page, config: str | None = json.dumps({"baseUrl": BASE})) -> None:
        self.page = page
        self.asked: list[str] = []
        self.answers: list[tuple[int, str, str]] = []  # status (0: none), kind and body; the last for ever
        head = "" if config is None else f'<script id="jupyter-config-data" type="application/json">{config}</script>'
        self.content = (
            f'<!DOCTYPE html><html lang="en"><title>A notebook</title>{head}'
            "<style>:root { color-scheme: light dark; font-family: serif } body { background: Canvas; color: "
            "CanvasText }</style><body><main><h1>A notebook</h1></main>"
        )
        page.context.route("**/*", self._answer)
        page.goto(f"{SERVER}{BASE}lab")

    def says(self, data: object, status: int = 200) -> None:
        self.answers.append((status, "application/json", json.dumps(data)))

    def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.endswith("/api/find"):
            self.asked.append(route.request.url)
            status, kind, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if status:
                route.fulfill(status=status, content_type=kind, body=body)
            else:
                route.abort("connectionrefused")
        elif "/view/" in path:
            route.fulfill(content_type="text/html", body="<title>v</title><button>The viewer</button>")
        else:
            route.fulfill(content_type="text/html", body=self.content)

    def run(self, output: str, cell: int = 0) -> None:
        """Show an output in the place of the cell's last one, as JupyterLab does."""
        self.page.evaluate(
            """([html, cell]) => {
              document.getElementById(`cell-${cell}`)?.remove();
              const place = Object.assign(document.createElement("div"), { id: `cell-${cell}`, innerHTML: html });
              for (const script of place.querySelectorAll("script")) {
                const clone = document.createElement("script");
                clone.textContent = script.textContent;
                script.replaceWith(clone);
              }
              document.querySelector("main").append(place);
            }""",
            [output, cell],
        )

    def cell(self, cell: int = 0) -> Any:
        return self.page.locator(f"#cell-{cell}")


def size(locator: Any) -> dict[str, float]:
    """As it is seen."""
    box = locator.bounding_box()
    assert box is not None
    return dict(box)


Tab = Callable[..., Page]


@pytest.fixture(name="page")
def a_page(browser: Browser) -> Iterator[Page]:
    """A tab whose browser may complain: of what it cannot have."""
    with browser.new_context() as context:
        yield context.new_page()


def test_the_viewer_is_a_frame_with_a_title_as_high_as_it_was_said(tmp_path: Path, tab: Tab) -> None:
    notebook = Notebook(tab())
    notebook.says(FOUND)
    before = notebook.page.evaluate("Object.keys(window)")
    notebook.run(output(file_at(tmp_path), 456))
    frame = notebook.cell().locator("iframe")
    expect(frame).to_have_attribute("src", f"{SERVER}{BASE}cellxgene/view/home/pbmc.h5ad/")
    assert frame.get_attribute("title") == "cellxgene: pbmc"
    expect(frame.content_frame.get_by_role("button")).to_be_visible()
    assert round(size(frame)["height"]) == 456
    assert size(frame)["width"] == size(notebook.cell())["width"]
    assert frame.get_attribute("allow") is frame.get_attribute("allowfullscreen") is None
    link = notebook.cell().get_by_role("link", name="Open in a tab of its own")
    assert link.get_attribute("href") == frame.get_attribute("src")
    expect(notebook.cell().get_by_text("Elsewhere")).to_be_hidden()
    left = notebook.page.evaluate("Object.keys(window)")
    assert set(left) - set(before) <= {"0"}  # the frame itself
    assert len(notebook.asked) == 1


def test_in_a_narrow_output_the_whole_viewer_is_smaller_but_never_unreadable(tmp_path: Path, tab: Tab) -> None:
    notebook = Notebook(tab())
    notebook.says(FOUND)
    notebook.run(output(file_at(tmp_path), 400))
    frame = notebook.cell().locator("iframe")
    expect(frame).to_be_visible()
    for window, inside in ((1600, 1584), (1280, 1264), (900, 1240), (400, 640)):  # cellxgene needs 1240
        notebook.page.set_viewport_size({"width": window, "height": 800})
        until_now(lambda inside=inside: round(frame.evaluate("each => each.offsetWidth")) == inside)  # type: ignore[misc]
        assert round(size(frame)["width"]) == window - 16
        assert round(size(frame)["height"]) == 400


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_asked_for_byte_by_byte(name: str, tmp_path: Path, tab: Tab) -> None:
    notebook = Notebook(tab())
    notebook.says({**FOUND, "title": "\udcff<img src=x onerror=alert(1)>"})
    file = file_at(tmp_path, name)
    notebook.run(output(file))
    expect(notebook.cell().locator("iframe")).to_have_count(1)
    (asked,) = notebook.asked
    address = urlsplit(asked)
    assert (address.path, address.fragment) == (f"{BASE}cellxgene/api/find", "")
    assert unquote_to_bytes(address.query.removeprefix("path=")) == os.fsencode(file)
    expect(notebook.cell().locator("img")).to_have_count(0)


def test_each_output_is_its_own_and_a_cell_that_runs_again_shows_the_new_one(tmp_path: Path, tab: Tab) -> None:
    notebook = Notebook(tab())
    notebook.says({**FOUND, "title": "first"})
    notebook.says({**FOUND, "title": "second"})
    notebook.says({**FOUND, "title": "first again"})
    notebook.run(output(file_at(tmp_path, "1.h5ad"), 200), 1)
    expect(notebook.cell(1).locator("iframe")).to_have_attribute("title", "cellxgene: first")
    notebook.run(output(file_at(tmp_path, "2.h5ad"), 300), 2)
    expect(notebook.cell(2).locator("iframe")).to_have_attribute("title", "cellxgene: second")
    notebook.run(output(file_at(tmp_path, "1.h5ad"), 250), 1)
    expect(notebook.cell(1).locator("iframe")).to_have_attribute("title", "cellxgene: first again")
    expect(notebook.cell(2).locator("iframe")).to_have_attribute("title", "cellxgene: second")
    heights = [round(size(each)["height"]) for each in notebook.page.locator("iframe").all()]
    assert sorted(heights) == [250, 300]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_problem_says_what_and_what_next_in_the_colours_of_the_page(scheme: str, tmp_path: Path, tab: Tab) -> None:
    page = tab(color_scheme=scheme)
    notebook = Notebook(page)
    notebook.says({"problem": PROBLEM}, 404)
    notebook.run(output(file_at(tmp_path)))
    alert = notebook.cell().get_by_role("alert")
    expect(alert).to_contain_text(str(PROBLEM["sentence"]))
    expect(alert.get_by_role("listitem")).to_have_count(2)
    expect(alert.locator("code")).to_have_text("mv /data/pbmc.h5ad /home/ana/")
    wanted = page.locator("h1").evaluate("each => getComputedStyle(each).color")
    for each in [*alert.locator("*").all(), notebook.cell().get_by_role("button")]:
        assert each.evaluate("each => getComputedStyle(each).color") == wanted
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"show-problem-{scheme}.png"))
    assert Axe().run(page).response["violations"] == []


def test_try_again_asks_again_by_keyboard_and_leads_to_the_viewer(tmp_path: Path, tab: Tab) -> None:
    notebook = Notebook(tab())
    notebook.says({"problem": PROBLEM}, 404)
    notebook.says({"problem": {**PROBLEM, "sentence": "Still not."}}, 404)
    notebook.says(FOUND)
    notebook.run(output(file_at(tmp_path)))
    button = notebook.cell().get_by_role("button", name="Try again")
    expect(button).to_be_visible()
    notebook.page.keyboard.press("Tab")
    expect(button).to_be_focused()
    notebook.page.keyboard.press("Enter")
    expect(notebook.cell().get_by_role("alert")).to_contain_text("Still not.")
    expect(button).to_be_focused()
    notebook.page.keyboard.press("Space")
    frame = notebook.cell().locator("iframe")
    expect(frame).to_be_focused()
    expect(notebook.cell().get_by_role("alert")).to_have_count(0)
    inside = frame.content_frame.get_by_role("button")
    expect(inside).to_be_visible()
    notebook.page.keyboard.press("Tab")
    expect(inside).to_be_focused()
    notebook.page.keyboard.press("Shift+Tab")
    expect(notebook.cell().get_by_role("link")).to_be_focused()


@pytest.mark.parametrize("config", [None, "{}"])
def test_a_page_without_a_server_keeps_the_text_that_says_what_to_do(
    config: str | None, tmp_path: Path, tab: Tab
) -> None:
    notebook = Notebook(tab(), config)
    notebook.run(output(file_at(tmp_path)))
    expect(notebook.cell().get_by_text(f"cxg-proxy {tmp_path / 'pbmc.h5ad'}")).to_be_visible()
    expect(notebook.cell().locator("button")).to_have_count(0)
    assert notebook.asked == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((404, "text/html", "<h1>404 : Not Found</h1>"), "does not offer cellxgene (status 404)"),
        ((404, "application/json", '{"message": "Not Found"}'), "does not offer cellxgene (status 404)"),
        ((200, "text/html", "<h1>Something else</h1>"), "does not offer cellxgene (status 200)"),
        ((403, "text/html", "<h1>403</h1>"), "does not know you any more"),
    ],
)
def test_a_server_without_our_door_is_told_from_one_where_the_login_is_over(
    answer: tuple[int, str, str], said: str, tmp_path: Path, page: Page
) -> None:
    notebook = Notebook(page)
    notebook.answers.append(answer)
    notebook.run(output(file_at(tmp_path)))
    expect(notebook.cell().get_by_role("alert")).to_contain_text(said)
    expect(notebook.cell().get_by_role("button", name="Try again")).to_be_visible()
    elsewhere = notebook.cell().get_by_text("Elsewhere, run this at a terminal")
    expect(elsewhere).to_be_visible(visible="offer" in said)


def test_a_server_that_is_gone_is_said_to_be(tmp_path: Path, page: Page) -> None:
    notebook = Notebook(page)
    notebook.answers.append((0, "", ""))
    notebook.run(output(file_at(tmp_path)))
    expect(notebook.cell().get_by_role("alert")).to_contain_text("The Jupyter server does not answer.")
