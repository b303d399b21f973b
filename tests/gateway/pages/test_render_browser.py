"""The rendered pages in a real Chromium: their looks, what axe finds, and that they work with and without script."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from pages_site import ARTEFACTS, HIDDEN, Server, a_browser, a_server, a_tab, no_leftovers_yet  # noqa: F401 - fixtures
from waiting import until_now

KINDS_OF_PAGE = ("library", "opening", "problem", "instances", "labels", "upload")
SIZES = {"wide": (1280, 800), "narrow": (360, 740)}


def address(server: Server, name: str) -> str:
    """Where the sample page lies: as deep as its links expect."""
    if name.startswith(("labels", "upload")):
        return server.url + "annotations/shared/" + name
    deep = name.startswith(("opening", "problem"))
    return server.url + ("view/shared/pbmc68k.h5ad/" if deep else "") + name


# --- looks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_fits_its_window_and_axe_finds_nothing(
    server: Server, tab: Callable[..., Page], size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    server.events = [{"phase": "loading", "done": 0.43, "elapsed": 3.2}]
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page = tab(viewport={"width": width, "height": height}, color_scheme=scheme)
    found: dict[str, list[str]] = {}
    # Every state of every page in two combinations, which cover both sizes and both schemes; else a look is enough.
    thorough = (size == "wide") == (scheme == "light")
    for name in server.pages if thorough else KINDS_OF_PAGE:
        page.goto(address(server, name))
        page.screenshot(path=str(ARTEFACTS / f"{name}-{size}-{scheme}.png"), full_page=True)
        found[name] = ["scrolls sideways"] if page.evaluate("document.documentElement.scrollWidth") > width else []
        if thorough:
            wrong = Axe().run(page).response["violations"]
            found[name] += [f"{each['id']}: {each['nodes'][0]['html']}" for each in wrong]
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_menu_opened_at_the_edge_of_a_narrow_window_stays_inside_and_readable(
    server: Server, tab: Callable[..., Page]
) -> None:
    page = tab(viewport={"width": 360, "height": 740})
    page.goto(server.url)
    page.get_by_label("More about pbmc68k").click()
    panel = page.locator(".menu[open] .panel")
    box = panel.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert Axe().run(page).response["violations"] == []
    page.screenshot(path=str(ARTEFACTS / "library-menu-narrow-light.png"))
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.get_by_label("More about pbmc68k")).to_be_focused()


# --- without script ------------------------------------------------------------------------------------------------


def test_without_script_one_click_anywhere_on_a_card_opens_it(server: Server, tab: Callable[..., Page]) -> None:
    server.pages["pbmc68k.h5ad"] = "<title>opened</title>"
    page = tab(java_script_enabled=False)
    page.goto(server.url)
    box = page.locator(".card .tile").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 20, box["y"] + 20)
    expect(page).to_have_url(server.url + "view/shared/pbmc68k.h5ad/")
    expect(page).to_have_title("opened")


def test_without_script_the_menu_searching_and_stopping_work(server: Server, tab: Callable[..., Page]) -> None:
    page = tab(java_script_enabled=False)
    page.goto(server.url)
    page.get_by_label("Search all datasets").fill("t cell")
    page.keyboard.press("Enter")
    expect(page).to_have_url(server.url + "?q=t+cell")
    page.get_by_label("More about pbmc68k").click()
    expect(page.get_by_text("Link to share").first).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page).to_have_url(server.url)
    assert server.posted == [("/api/instances/abc/stop", {"_xsrf": ["2|token"], "next": ["?page=2"]})]


def test_without_script_the_opening_page_reloads_itself_until_the_viewer_is_there(
    server: Server, tab: Callable[..., Page]
) -> None:
    page = tab(java_script_enabled=False)
    page.goto(address(server, "opening"))
    server.pages["opening"] = "<title>the viewer</title>"
    expect(page).to_have_title("the viewer", timeout=8000)


def test_without_script_cancel_leads_back_to_the_list(server: Server, tab: Callable[..., Page]) -> None:
    page = tab(java_script_enabled=False)
    page.goto(address(server, "opening"))
    page.get_by_role("button", name="Cancel").click()
    expect(page).to_have_url(server.url)
    assert server.posted == [("/api/instances/abc/stop", {"_xsrf": ["2|token"], "next": ["./"]})]


# --- keyboard and copying ------------------------------------------------------------------------------------------


def test_the_keyboard_alone_reaches_content_search_and_dataset(server: Server, tab: Callable[..., Page]) -> None:
    server.pages["pbmc68k.h5ad"] = "<title>opened</title>"
    page = tab()
    page.goto(server.url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Search all datasets")).to_be_focused()
    page.get_by_role("link", name="pbmc68k").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title("opened")


def test_copy_link_gives_the_whole_address_to_send(server: Server, tab: Callable[..., Page]) -> None:
    page = tab(permissions=["clipboard-read", "clipboard-write"])
    page.goto(server.url)
    page.get_by_label("More about pbmc68k").click()
    page.get_by_text("Copy link").first.click()
    expect(page.get_by_role("status").last).to_have_text("Copied")
    expected = server.url + "hub/user-redirect/cellxgene/view/shared/pbmc68k.h5ad/"
    assert page.evaluate("navigator.clipboard.readText()") == expected


def test_copying_works_where_plain_http_has_no_clipboard_interface(server: Server, tab: Callable[..., Page]) -> None:
    page = tab()
    page.goto(address(server, "problem").replace("127.0.0.1", "plain.test"))
    assert page.evaluate("window.isSecureContext") is False
    page.get_by_role("button", name="Copy cellxgene prepare").click()
    expect(page.get_by_role("status").last).to_have_text("Copied")
    page.goto(server.url.replace("127.0.0.1", "plain.test"))
    page.keyboard.press("/")
    page.keyboard.press("Control+V")
    expect(page.get_by_label("Search all datasets")).to_have_value("cellxgene prepare FILE --output new.h5ad")


# --- following and refreshing --------------------------------------------------------------------------------------


def test_the_opening_page_becomes_the_viewer_and_back_returns_to_the_list(
    server: Server, tab: Callable[..., Page]
) -> None:
    server.events = [{"phase": "starting", "elapsed": 0.1}, {"phase": "loading", "done": 0.6, "elapsed": 2.0}]
    page = tab()
    page.goto(server.url)
    page.goto(address(server, "opening"))
    expect(page.locator("#done")).to_have_text("60\u202f%")
    expect(page.locator("#phase")).to_have_text("Reading the dataset.")
    server.pages["opening"] = "<title>the viewer</title>"
    server.events = [{"phase": "ready", "elapsed": 3.0}]
    expect(page).to_have_title("the viewer", timeout=8000)
    page.go_back()
    expect(page).to_have_url(server.url)


def test_cancel_leaves_no_page_behind_that_would_start_it_again(server: Server, tab: Callable[..., Page]) -> None:
    server.events = [{"phase": "loading", "done": 0.6, "elapsed": 2.0}]
    page = tab()
    page.goto(server.url)
    page.goto(address(server, "opening"))
    page.get_by_role("button", name="Cancel").click()
    expect(page).to_have_url(server.url)
    page.go_back()
    expect(page).to_have_url(server.url)
    assert [path for path, _ in server.posted] == ["/api/instances/abc/stop"]


def test_a_list_with_unread_datasets_renews_itself_and_keeps_the_focus(
    server: Server, tab: Callable[..., Page]
) -> None:
    page = tab()
    page.goto(server.url)
    expect(page.get_by_text("reading…")).to_be_visible()
    page.get_by_role("link", name="new_upload").focus()
    server.pages["library"] = server.pages["library"].replace("reading…", "700 cells × 765 genes")
    expect(page.get_by_text("700 cells × 765 genes")).to_be_visible()
    expect(page.get_by_role("link", name="new_upload")).to_be_focused()


def test_a_page_that_renews_itself_keeps_the_file_that_was_chosen(server: Server, tab: Callable[..., Page]) -> None:
    page = tab()
    page.goto(address(server, "labels-looking"))
    chosen = {"name": "mine.csv", "mimeType": "text/csv", "buffer": b"index,type"}
    page.get_by_label("Table of labels").set_input_files([chosen])  # type: ignore[list-item]  # as documented
    asked = len(server.asked)
    until_now(lambda: page.evaluate("1") and len(server.asked) > asked + 1)
    assert page.evaluate("document.getElementById('table').files[0]?.name") == "mine.csv"


def test_a_hidden_list_asks_nothing(server: Server, tab: Callable[..., Page]) -> None:
    page = tab()
    page.add_init_script(HIDDEN)
    page.goto(server.url + "?q=hidden")
    tab().goto(server.url + "?q=seen")
    until_now(lambda: server.asked.count("/?q=seen") == 2)
    assert server.asked.count("/?q=hidden") == 1


def test_a_list_stops_asking_after_its_rounds(server: Server, tab: Callable[..., Page]) -> None:
    often = server.pages["library"].replace('data-refresh="2"', 'data-refresh="0.02"')
    server.pages["few"] = often.replace('data-rounds="60"', 'data-rounds="3"')
    server.pages["many"] = often
    for name in ("few", "many"):
        tab().goto(server.url + name)
    until_now(lambda: server.asked.count("/many") == 61)
    assert server.asked.count("/few") == 4


def test_stopping_in_the_table_renews_it_in_place_and_keeps_a_log_open(
    server: Server, tab: Callable[..., Page]
) -> None:
    page = tab()
    page.goto(address(server, "instances"))
    page.get_by_text("Last log lines").first.click()
    server.pages["instances"] = server.pages["instances"].replace("open now", "closing")
    page.get_by_role("button", name="Stop").first.click()
    expect(page.get_by_text("closing")).to_be_visible()
    expect(page.get_by_text("GET /api/v0.2/schema 200").first).to_be_visible()
    assert [path for path, _ in server.posted] == ["/api/instances/ipbmc68k/stop"]
