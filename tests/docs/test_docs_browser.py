"""The documentation in a real Chromium: how it looks, what axe finds, and that it asks no other host for anything."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request, expect

from docs_site import SOURCES, Site
from pages_site import ARTEFACTS, a_browser, a_tab, no_leftovers_yet  # noqa: F401 - fixtures

pytest_plugins = ["docs_plugin"]
SIZES = {"wide": (1280, 800), "narrow": (360, 740)}
PAGES = [source.stem for source in SOURCES]

pytestmark = pytest.mark.timeout(120)


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a word."""

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def url(documentation: Site) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(documentation.folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_its_window_axe_finds_nothing_and_no_other_host_is_asked(
    url: str, tab: Callable[..., Page], name: str, size: str, scheme: str
) -> None:
    width, height = SIZES[size]
    page = tab(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")
    asked: list[str] = []
    page.on("request", functools.partial(note, asked))
    page.goto(f"{url}{name}.html", wait_until="networkidle")
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"docs-{name}-{size}-{scheme}.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
    wrong = Axe().run(page).response["violations"]
    assert [f"{each['id']}: {node['html'][:200]}" for each in wrong for node in each["nodes"]] == []
    assert {urlsplit(each).netloc for each in asked} == {urlsplit(url).netloc}


def note(asked: list[str], request: Request) -> None:
    if urlsplit(request.url).scheme not in ("data", "blob"):
        asked.append(request.url)


def test_searching_for_a_sentence_leads_to_it(url: str, tab: Callable[..., Page]) -> None:
    page = tab()
    page.goto(f"{url}index.html")
    page.keyboard.press("/")
    page.keyboard.type("no 2-D embedding")
    page.locator(".md-search-result__link", has_text="nothing to draw").first.click()
    expect(page.locator("#NoEmbedding")).to_be_in_viewport()
    assert urlsplit(page.url).path.endswith("/troubleshooting.html")
