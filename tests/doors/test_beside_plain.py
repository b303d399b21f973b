"""Beside plain cellxgene behind plain jupyter-server-proxy, on one Jupyter server: what goes wrong there works here.

One dataset, in the real Chromium; ours bears a name that needs care, plain cellxgene would not even start with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from browser_fixtures import Person, a_browser, a_profile, shot, wait_drawn  # noqa: F401 - fixtures
from jupyter_fixtures import wait_until
from plain_fixtures import BROKEN, IDLE_SECONDS, NAME, Beside, beside, escaped
from playwright.sync_api import Page, Request, expect

pytestmark = pytest.mark.timeout(180)

MINUTE = 61_000  # milliseconds, and a little more
LOGO = 'img[src*="static/assets/icon"]'
SEEN = """seen => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => seen ? "visible" : "hidden" });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    with beside(tmp_path_factory.mktemp("beside")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """The server and its viewers outlive a test."""


Opened = tuple[Page, list[str]]


@pytest.fixture
def opened(both: Beside, profile: Person) -> Callable[[str], Opened]:
    """Open a viewer until its cells are drawn: the page, whose clock obeys, and the paths it asks for from then on."""

    def opening(address: str) -> Opened:
        page, asked = profile(), []

        def note(request: Request) -> None:
            asked.append(urlsplit(request.url).path)

        page.clock.install()
        page.goto(both.entry(address))
        page.get_by_test_id("layout-graph").wait_for()
        page.wait_for_load_state("networkidle")
        page.on("request", note)
        return page, asked

    return opening


def open_ours(both: Beside) -> None:
    """Open our viewer as a program does."""
    both.server.get(both.ours).raise_for_status()
    wait_until(lambda: both.phase() == "ready", "our viewer", 60)


def since(both: Beside) -> float:
    """When our viewer was opened."""
    found = both.server.get("cellxgene/api/instances").json()["instances"]
    return next(float(each["since"]) for each in found if each["name"] == f"home/{NAME}")


def width(page: Page) -> int:
    """How wide cellxgene's logo is as a picture; 0 if it is broken."""
    page.wait_for_function("logo => document.querySelector(logo)?.complete", arg=LOGO)
    return int(page.locator(LOGO).evaluate("picture => picture.naturalWidth"))


@pytest.mark.hazard(26)
def test_the_logo_is_broken_there_and_shows_here(both: Beside, opened: Callable[[str], Opened]) -> None:
    there, _ = opened(both.plain)
    here, _ = opened(both.ours)
    wait_drawn(here)
    assert width(there) == 0
    assert width(here) > 0
    shot(there, "plain-viewer")
    shot(here, "beside-plain")


@pytest.mark.hazard(28)
def test_a_question_comes_before_the_first_category_there_and_none_here(
    both: Beside, opened: Callable[[str], Opened]
) -> None:
    question = "Name your user generated data directory"
    there, _ = opened(both.plain)
    expect(there.get_by_text(question)).to_be_visible()
    here, _ = opened(both.ours)
    here.get_by_test_id("open-annotation-dialog").click()
    expect(here.get_by_test_id("new-category-name")).to_be_visible()
    expect(here.get_by_text(question)).to_have_count(0)


@pytest.mark.hazard(27)
def test_there_an_open_viewer_asks_nothing_and_its_server_looks_unused(
    both: Beside, opened: Callable[[str], Opened]
) -> None:
    page, asked = opened(both.plain)
    before = both.last_activity()
    page.clock.fast_forward(60 * MINUTE)
    page.evaluate("fetch('/api/status?no_track_activity=1')")  # had it asked anything, that came first
    wait_until(lambda: "/api/status" in asked, "a request of our own")
    assert asked == ["/api/status"]
    assert both.last_activity() == before


@pytest.mark.hazard(27)
def test_here_a_visible_viewer_counts_as_use_each_minute(both: Beside, opened: Callable[[str], Opened]) -> None:
    page, asked = opened(both.ours)
    before = both.last_activity()
    page.clock.fast_forward(MINUTE)
    wait_until(lambda: both.last_activity() > before, "a sign of life")
    assert set(asked) == {urlsplit(both.ours).path + "cxg-proxy/state"}


@pytest.mark.hazard(27)
def test_here_a_viewer_lives_while_it_is_looked_at_and_comes_back_when_looked_at_again(
    both: Beside, opened: Callable[[str], Opened]
) -> None:
    page, asked = opened(both.ours)
    began = since(both)
    end = time.monotonic() + 2 * IDLE_SECONDS
    while time.monotonic() < end:  # minutes pass for the page, fractions of a second for the gateway
        page.clock.fast_forward(MINUTE)
    assert len(asked) > 2
    assert (both.phase(), since(both)) == ("ready", began)
    page.evaluate(SEEN, False)
    page.clock.fast_forward(60 * MINUTE)
    wait_until(lambda: both.phase() == "closed", "the end of a viewer that nobody sees", 3 * IDLE_SECONDS)
    expect(page.locator("cxg-proxy .strip")).to_be_hidden()
    page.evaluate(SEEN, True)
    strip = page.get_by_role("status").filter(has_text="This viewer was closed; nothing is lost.")
    expect(strip).to_be_visible()
    shot(page, "viewer-closed")
    page.get_by_role("button", name="Reopen").click()
    expect(page.get_by_test_id("layout-graph")).to_be_visible()
    wait_drawn(page)
    assert both.phase() == "ready"
    expect(page.locator("cxg-proxy .strip")).to_be_hidden()


@pytest.mark.hazard(23)
def test_an_address_without_its_slash_finds_no_data_there_and_is_mended_here(both: Beside, profile: Person) -> None:
    both.server.get("plain/").raise_for_status()
    there, refused = profile(), []
    there.on("response", lambda reply: refused.append(reply.url) if reply.status >= 400 else None)
    there.goto(both.entry(f"{both.server.url}proxy/{both.port}"))
    there.wait_for_load_state("networkidle")
    assert there.title()  # cellxgene's page came, but nothing that it asks for
    assert refused
    assert there.get_by_test_id("layout-graph").count() == 0
    here = profile()
    here.goto(both.entry(both.ours.removesuffix("/")))
    wait_drawn(here)
    assert urlsplit(here.url).path == urlsplit(both.ours).path


@pytest.mark.hazard(3)
def test_anybody_on_the_machine_can_ask_the_port_there_and_here_is_none(both: Beside) -> None:
    both.server.get("plain/").raise_for_status()
    assert httpx.get(f"http://127.0.0.1:{both.port}/api/v0.2/schema").status_code == 200
    open_ours(both)
    gateway = both.server.gateway()
    assert gateway is not None
    serving = [gateway, *gateway.children(recursive=True)]
    assert len(serving) >= 2
    assert not [each for each in serving if each.net_connections("inet")]


@pytest.mark.hazard(5)
def test_a_cookie_for_the_whole_domain_is_set_there_and_none_here(both: Beside) -> None:
    there = both.server.get("plain/api/v0.2/config")
    assert [each for each in there.headers.get_list("set-cookie") if each.startswith("session=")]
    open_ours(both)
    here = both.server.get(f"{both.ours}api/v0.2/config")
    assert here.status_code == 200
    assert "set-cookie" not in here.headers


def test_a_click_leads_from_the_card_to_the_viewer_and_another_one_back(both: Beside, profile: Person) -> None:
    library = f"{both.server.url}cellxgene/"
    page = profile()
    page.goto(both.entry(library))
    page.get_by_role("link", name=NAME.removesuffix(".h5ad")).click()
    wait_drawn(page)
    assert page.url == both.ours
    assert page.title() == NAME.removesuffix(".h5ad")
    page.get_by_role("link", name="library").click()
    expect(page).to_have_url(library)


@pytest.mark.hazard(1)
def test_a_short_reply_is_cut_to_nothing_there_and_whole_here(both: Beside) -> None:
    open_ours(both)
    schema = both.server.get(f"{both.ours}api/v0.2/schema").json()["schema"]
    names = f"api/v0.2/annotations/var?annotation-name={schema['annotations']['var']['index']}"
    assert both.server.get(both.plain + names).status_code >= 500
    here = both.server.get(both.ours + names)
    assert here.status_code == 200
    assert 0 < len(here.content) < 500


@pytest.mark.hazard(24)
def test_why_a_file_cannot_be_opened_is_said_nowhere_there_and_on_the_page_here(both: Beside) -> None:
    there = both.server.get("broken/", headers={"Accept": "text/html"})
    assert there.status_code == 500
    assert "h5ad" not in there.text
    address = f"cellxgene/view/home/{escaped(BROKEN)}/"
    wait_until(lambda: both.server.get(address).status_code != 200, "the end of our viewer", 60)
    here = both.server.get(address, headers={"Accept": "text/html"})
    assert here.status_code == 422
    assert "not an AnnData file" in here.text
    assert "Check that the file was copied completely" in here.text
