"""An .h5ad file in JupyterLab's file browser: opened in a tab, whose state is seen, and which touches no file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_fixtures import (
    Person,
    a_browser,  # noqa: F401 - a fixture
    a_profile,  # noqa: F401 - a fixture
    shot,
)
from jupyter_fixtures import JupyterServer, wait_until
from lab_fixtures import (
    HOSTILE,
    Lab,
    Opened,
    a_home,  # noqa: F401 - a fixture
    a_lab,  # noqa: F401 - a fixture
    a_server,  # noqa: F401 - a fixture
    stop_all,
)
from playwright.sync_api import Locator, Page, Request, expect

pytestmark = pytest.mark.timeout(180)


def asked(page: Page) -> list[Request]:
    """What the page asks for from now on."""
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - it takes no method of a list
    return requests


def finds(requests: list[Request]) -> list[str]:
    return [each.url for each in requests if "/cellxgene/api/find" in each.url]


def test_a_double_click_draws_the_viewer_in_a_tab_that_bears_the_datasets_title(lab: Opened) -> None:
    mine = lab()
    expect(mine.files("pbmc.h5ad").locator("[data-icon='cxg-proxy:h5ad']")).to_be_visible()
    mine.files("pbmc.h5ad").dblclick()
    viewer = mine.viewer()
    expect(mine.tab("pbmc")).to_be_visible()
    expect(mine.tab("pbmc").locator("[data-icon='cxg-proxy:h5ad']")).to_be_visible()
    expect(mine.state).to_have_text("Running")
    shot(mine.page, "lab-viewer")
    assert viewer.locator("html").evaluate(
        "page => page.scrollWidth <= page.clientWidth"
    )  # beside the file browser too


def test_open_with_offers_cellxgene(lab: Opened) -> None:
    mine = lab()
    mine.menu("pbmc.h5ad", "Open With", "cellxgene")
    mine.viewer()


def test_a_dataset_in_a_folder_and_one_with_a_hostile_name_open_too(lab: Opened) -> None:
    mine = lab()
    mine.files(HOSTILE).dblclick()
    mine.viewer()
    tab = mine.page.locator("#jp-main-dock-panel .lm-TabBar-tab.lm-mod-current .lm-TabBar-tabLabel")
    assert tab.evaluate("node => node.textContent") == HOSTILE.removesuffix(".h5ad")
    assert mine.shown.locator("iframe").get_attribute("title") == f"cellxgene: {HOSTILE.removesuffix('.h5ad')}"
    shot(mine.page, "lab-hostile")
    mine.files("data").dblclick()
    mine.files("deep.h5ad").dblclick()
    expect(mine.tab("deep")).to_be_visible()
    mine.viewer()


def test_nothing_of_the_file_comes_to_the_browser_and_no_copy_is_made(lab: Opened, home: Path) -> None:
    mine = lab()
    before, requests = written(home / "pbmc.h5ad"), asked(mine.page)
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    record = [each for each in requests if "pbmc.h5ad" in urlsplit(each.url).path and "/api/contents/" in each.url]
    assert record
    for each in record:
        assert each.method == "GET", f"{each.method} {each.url}"
        assert parse_qs(urlsplit(each.url).query)["content"] == ["0"], each.url
    assert not [each.url for each in requests if urlsplit(each.url).path.startswith("/files/")]
    assert not [*home.rglob(".ipynb_checkpoints")]
    assert written(home / "pbmc.h5ad") == before


def written(file: Path) -> tuple[int, int, int]:
    state = file.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def test_what_is_shown_can_neither_be_saved_nor_saved_as_something_else(lab: Opened, home: Path) -> None:
    mine = lab()
    before = (home / "pbmc.h5ad").read_bytes()
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    requests = asked(mine.page)
    mine.shown.get_by_role("link").focus()
    mine.page.keyboard.press("Control+s")
    mine.page.evaluate("void jupyterapp.commands.execute('docmanager:save-all')")
    assert not mine.page.evaluate("jupyterapp.commands.isEnabled('docmanager:save')")
    mine.page.keyboard.press("Control+Shift+s")
    expect(mine.dialog).to_contain_text("cellxgene saves labels by itself")
    shot(mine.page, "lab-save-as")
    assert not [each.url for each in requests if each.method != "GET" and "/api/contents/" in each.url]
    assert (home / "pbmc.h5ad").read_bytes() == before


def test_a_viewer_that_was_stopped_says_so_and_opens_again(lab: Opened, server: JupyterServer, profile: Person) -> None:
    mine = lab()
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    expect(mine.state).to_have_text("Running")
    expect(mine.shown.get_by_role("button", name="Reopen")).to_be_hidden()
    stop_all(profile(), server)
    expect(mine.state).to_have_text("Stopped")
    shot(mine.page, "lab-stopped")
    mine.shown.get_by_role("button", name="Reopen").press("Enter")
    expect(mine.state).to_have_text("Running")
    expect(mine.shown.get_by_role("button", name="Reopen")).to_be_hidden()
    mine.viewer()


def test_a_tab_that_nobody_sees_asks_nothing_and_loads_nothing(lab: Opened) -> None:
    mine = lab()
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    mine.files("data").dblclick()
    mine.files("deep.h5ad").dblclick()
    mine.viewer()
    requests = asked(mine.page)
    wait_until(lambda: len(found(mine, requests)) >= 3, "a few questions", 60)
    assert not [url for url in finds(requests) if "pbmc" in url]
    styles = mine.page.locator(".cxg-Viewer iframe").evaluate_all("frames => frames.map(frame => frame.style.display)")
    assert sorted(styles) == ["", "none"]  # which tells the viewer inside too


def found(lab: Lab, requests: list[Request]) -> list[str]:
    """The questions so far; Playwright hears of them only while it is asked something."""
    lab.page.evaluate("0")
    return finds(requests)


def test_a_reload_restores_the_tabs_and_loads_only_what_is_seen(lab: Opened) -> None:
    mine = lab()
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    mine.files("data").dblclick()
    mine.files("deep.h5ad").dblclick()
    mine.viewer()
    expect(mine.tab("deep")).to_be_visible()
    saved = mine.server.url + "lab/api/workspaces/" + mine.address.rpartition("/")[2]
    wait_until(lambda: "deep.h5ad" in mine.page.evaluate(f"fetch({saved!r}).then(r => r.text())"), "the layout")
    requests = asked(mine.page)
    mine.page.reload()
    mine.viewer()
    expect(mine.tab("deep")).to_have_attribute("aria-selected", "true")
    expect(mine.tab("pbmc.h5ad")).to_be_visible()
    assert not [url for url in finds(requests) if "pbmc" in url]
    mine.tab("pbmc.h5ad").click()
    expect(mine.tab("pbmc")).to_be_visible()
    mine.viewer()


def test_a_file_outside_every_library_is_explained_in_the_gateways_words(lab: Opened, home: Path) -> None:
    mine = lab()
    mine.files("outside.h5ad").dblclick()
    told = mine.shown.get_by_role("alert")
    expect(told).to_contain_text("outside.h5ad")
    expect(told).to_contain_text(str(home))  # which libraries there are
    expect(told.get_by_role("listitem").first).to_be_visible()
    shot(mine.page, "lab-outside")
    assert violations(mine.page) == []


def test_a_gateway_without_an_answer_is_said_and_found_again(lab: Opened) -> None:
    mine = lab()
    mine.page.route("**/cellxgene/api/find*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    mine.files("pbmc.h5ad").dblclick()
    told = mine.shown.get_by_role("alert")
    expect(told).to_contain_text("cellxgene does not answer")
    expect(told).to_contain_text("502")
    shot(mine.page, "lab-no-answer")
    mine.page.unroute("**/cellxgene/api/find*")
    told.get_by_role("button", name="Try Again").click()
    mine.viewer()


def test_a_renamed_file_keeps_its_tab(lab: Opened, home: Path) -> None:
    mine = lab()
    (home / "data" / "deep.h5ad").rename(home / "before.h5ad")
    mine.page.get_by_role("button", name="Refresh the file browser").click()
    mine.files("before.h5ad").dblclick()
    mine.viewer()
    mine.menu("before.h5ad", "Rename")
    mine.page.keyboard.type("after")
    mine.page.keyboard.press("Enter")
    expect(mine.tab("after")).to_be_visible()
    expect(mine.shown.get_by_role("link")).to_have_attribute(
        "href", f"{mine.server.url}cellxgene/view/home/after.h5ad/"
    )
    expect(mine.state).to_have_text("Running")
    mine.viewer()
    (home / "after.h5ad").rename(home / "data" / "deep.h5ad")


def test_a_file_of_a_collaborative_drive_is_found_without_its_prefix(lab: Opened) -> None:
    mine = lab()
    drive = "Object.create(contents._defaultDrive, { name: { value: name } })"
    add = f"name => {{ const contents = jupyterapp.serviceManager.contents; contents.addDrive({drive}); }}"
    for name in ("RTC", "Bucket"):
        mine.page.evaluate(add, name)
    mine.page.evaluate("jupyterapp.commands.execute('docmanager:open', { path: 'RTC:pbmc.h5ad' })")
    mine.viewer()
    mine.page.evaluate("jupyterapp.commands.execute('docmanager:open', { path: 'Bucket:pbmc.h5ad' })")
    expect(mine.shown.get_by_role("alert")).to_contain_text("in the drive “Bucket”")


def violations(page: Page) -> list[str]:
    """What axe finds in our tab; cellxgene's own page is not ours."""
    options = {"iframes": False}
    found = Axe().run(page, context=".cxg-Viewer", options=options).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


def test_the_tab_can_be_read_by_everybody_in_the_light_and_in_the_dark(lab: Opened) -> None:
    mine = lab()
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    expect(mine.state).to_have_text("Running")
    assert violations(mine.page) == []
    mine.page.evaluate("jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    expect(mine.page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    assert violations(mine.page) == []
    shot(mine.page, "lab-dark")
    mine.page.evaluate("jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Light' })")


def press_until(page: Page, key: str, wanted: Locator) -> None:
    """Go on with the keyboard until what is wanted has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        if wanted.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError("it does not get the focus")


def test_everything_works_by_keyboard_alone(lab: Opened) -> None:
    mine = lab()
    keys = mine.page.keyboard
    press_until(mine.page, "Tab", mine.files("data").locator(".jp-DirListing-itemText"))
    press_until(mine.page, "ArrowDown", mine.files("pbmc.h5ad").locator(".jp-DirListing-itemText"))
    keys.press("Shift+F10")
    press_down_to(mine.page, "Copy cellxgene Share Link")
    keys.press("Escape")
    mine.files("pbmc.h5ad").locator(".jp-DirListing-itemText").focus()  # JupyterLab forgets it
    keys.press("Enter")
    mine.viewer()
    expect(mine.shown.locator("iframe")).to_be_focused()
    keys.press("F6")
    expect(mine.shown.get_by_role("link")).to_be_focused()
    keys.press("Tab")  # into the viewer, and back
    expect(mine.shown.locator("iframe")).to_be_focused()
    keys.press("Shift+Tab")
    expect(mine.shown.get_by_role("link")).to_be_focused()
    mine.shown.get_by_role("button", name="Leave the viewer").focus()  # is where Tab leads after the viewer's last part
    shot(mine.page, "lab-leave")
    keys.press("Enter")
    expect(mine.shown.get_by_role("link")).to_be_focused()


def press_down_to(page: Page, entry: str) -> None:
    """Go down a menu until an entry is the active one."""
    active = page.locator(".lm-Menu-item.lm-mod-active")
    for _ in range(10):
        page.keyboard.press("ArrowDown")
        if entry in active.inner_text():
            return
    raise AssertionError(f"{entry} is not in the menu")


def test_a_click_in_the_viewer_makes_its_tab_the_current_one(lab: Opened) -> None:
    mine = lab()
    mine.files("pbmc.h5ad").dblclick()
    mine.viewer()
    mine.files("data").dblclick()
    mine.files("deep.h5ad").click()
    beside = "{ path: 'data/deep.h5ad', options: { mode: 'split-right' } }"
    mine.page.evaluate(f"void jupyterapp.commands.execute('docmanager:open', {beside})")
    current = "jupyterapp.shell.currentWidget.title.label"
    wait_until(lambda: mine.page.evaluate(current) == "deep", "the second tab")
    mine.page.frame_locator("iframe[title='cellxgene: pbmc']").get_by_test_id("layout-overlay").click()
    wait_until(lambda: mine.page.evaluate(current) == "pbmc", "the first tab")
