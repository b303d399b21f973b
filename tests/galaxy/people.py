"""What a person does in Galaxy's pages and in the viewer, with a real Chromium."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from browser_fixtures import choose, shot, wait_drawn
from galaxy_client import PASSWORD, User
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from progress import say

from cxg_proxy.formatting import PHASES

MISSING = "Proxy target missing"
# What Chromium says when a network interface came or went meanwhile. Here it shares the machine with the containers,
# each of which has one; the browser of a person who uses a Galaxy does not.
INTERFACES = "ERR_NETWORK_CHANGED"
PATIENCE = 120_000  # milliseconds until a job has started on a busy machine
FORM_PATIENCE = 20_000  # until a form that was sent is answered


@dataclass
class Waits:
    """What a person waits for after Run, in seconds, and how often a reload only met the proxy's error."""

    link: float = 0
    first_page: float = 0
    drawn: float = 0
    missing: float = 0

    @property
    def wait_behind_link(self) -> float:
        """From the click on the link to a page that is no error."""
        return self.first_page - self.link


def go(page: Page, address: str) -> None:
    """Go to an address."""
    _while_interfaces_change(lambda: page.goto(address))


def _while_interfaces_change(load: Callable[[], object]) -> None:
    """Load a page, again for as long as only the machine's interfaces change meanwhile."""
    end = time.monotonic() + PATIENCE / 1000
    while True:
        try:
            load()
        except PlaywrightError as problem:
            if INTERFACES not in str(problem) or time.monotonic() > end:
                raise
        else:
            return


def log_in(page: Page, user: User) -> None:
    """Log in with name and password, and look at the history of these tests."""
    go(page, f"{user.galaxy.url}/login/start")
    page.locator("input[name=login]").fill(user.name)
    page.locator("input[name=password]").fill(PASSWORD)
    page.locator("button[name=login]").click()
    page.wait_for_url(f"{user.galaxy.url}/")
    chosen = page.request.get(f"{user.galaxy.url}/history/set_as_current", params={"id": user.history})
    assert chosen.ok, chosen.text()


def fill_form(page: Page, user: User, tool: str, title: str = "") -> None:
    """Open a tool's form; the dataset is chosen by itself, as the history has only one that fits."""
    go(page, f"{user.galaxy.url}/?tool_id={tool}")
    expect(page.locator("#center")).to_contain_text(re.compile(r"\d+: pbmc\.h5ad"), timeout=PATIENCE)
    if title:
        page.locator("#title").fill(title)


def press_run(page: Page) -> float:
    """Press Run, again if Galaxy's form was not listening yet; the moment of the press that it heard."""
    end = time.monotonic() + PATIENCE / 1000
    while True:
        began = time.monotonic()
        try:
            with page.expect_response(lambda reply: reply.url.endswith("/api/tools"), timeout=FORM_PATIENCE):
                page.locator("#execute").first.click()
        except PlaywrightTimeout:
            assert time.monotonic() < end, "Galaxy's form did nothing when Run was pressed"
        else:
            return began


def run_and_follow(page: Page) -> tuple[Page, Waits]:
    """Press Run, and the link the moment it is there; reload as long as only the proxy's error is behind it."""
    waits = Waits()
    began = press_run(page)
    link = page.get_by_title("Open Interactive Tool").first
    link.wait_for(timeout=PATIENCE)
    waits.link = time.monotonic() - began
    with page.expect_popup() as opened:
        link.click()
    viewer = opened.value
    viewer.set_default_timeout(PATIENCE)
    viewer.wait_for_load_state("domcontentloaded")
    while INTERFACES in viewer.content():
        _while_interfaces_change(lambda: viewer.reload(wait_until="domcontentloaded"))
    while MISSING in viewer.content():
        waits.missing += 1
        assert time.monotonic() < began + PATIENCE / 1000, f"only «{MISSING}» behind the link"
        viewer.reload(wait_until="domcontentloaded")
    waits.first_page = time.monotonic() - began
    say(f"the first page: {opening_or_viewer(viewer)}")
    shot(viewer, "first-page")
    wait_drawn(viewer)
    waits.drawn = time.monotonic() - began
    return viewer, waits


def opening_or_viewer(viewer: Page) -> str:
    """What the opening page says of its phase, or that cellxgene's own page was there already; nothing else may be."""
    said = (viewer.locator("#phase, #root").first.text_content() or "").strip()
    if said not in PHASES.values():
        assert viewer.locator("#phase").count() == 0, said
        return "the viewer"
    return said


def label_cells(viewer: Page, among: str, value: str, category: str, label: str) -> None:
    """Give all cells with one value of an annotation a label in a new category."""
    viewer.get_by_test_id("open-annotation-dialog").click()
    viewer.get_by_test_id("new-category-name").fill(category)
    viewer.get_by_test_id("submit-category").click()
    viewer.get_by_test_id(f"{among}:category-expand").click()
    viewer.get_by_test_id(f"{among}:category-select").click(force=True)  # none, under the box drawn over it
    viewer.get_by_test_id(f"categorical-value-select-{among}-{value}").click(force=True)
    choose(viewer, f"{category}:see-actions", f"{category}:add-new-label-to-category")
    viewer.get_by_test_id(f"{category}:new-label-name").fill(label)
    viewer.get_by_role("button", name="Add label & assign").click()
    expect(viewer.locator("[data-testclass=autosave-complete]").first).to_be_visible()


def save_to_history(viewer: Page) -> None:
    """Press *Save to history now* on the page of the labels, and wait for what it says."""
    viewer.get_by_role("link", name="labels").first.click()
    viewer.get_by_role("button", name="Save to history now").click()
    expect(viewer.get_by_text(re.compile("Sent to the history")).first).to_be_visible()


def press_stop(page: Page, user: User) -> None:
    """Press Stop in Galaxy's list of running tools, and see its container end, whose interface goes with it."""
    go(page, f"{user.galaxy.url}/interactivetool_entry_points/list")
    running = _containers(user)
    stop = page.get_by_title("Stop this interactive tool")
    # The page forgets the tool before Galaxy has heard of it, and whoever leaves the page then takes it back.
    with page.expect_response(lambda reply: reply.request.method == "DELETE", timeout=PATIENCE):
        stop.first.click(timeout=PATIENCE)
    expect(stop).to_have_count(0)
    user.galaxy.wait(lambda: running - _containers(user), "the end of the container", 60)


def _containers(user: User) -> set[str]:
    return set(user.galaxy.engine("ps", "--all", "--quiet").split())
