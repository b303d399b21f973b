"""A tiny site that serves the sample pages to a real Chromium, with fixtures for its tabs."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import pages_samples
from cxg_proxy.gateway.pages import thumbnail
from cxg_proxy.gateway.web import page_scripts, security
from cxg_proxy.gateway.workers import command
from waiting import until_now

STATIC = Path(str(resources.files("cxg_proxy.gateway.pages"))) / "static"
ARTEFACTS = Path(os.environ.get("CXG_ARTEFACTS", "build/artefacts"))
HIDDEN = "Object.defineProperty(Document.prototype, 'visibilityState', { configurable: true, get: () => 'hidden' })"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ANSWERS = (
    "404",
    "status of 500",
    "status of 502",
    "status of 503",
)  # errors that the site returns on purpose, and that a browser reports
QUIET = (
    "--no-sandbox",
    "--host-resolver-rules=MAP plain.test 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def picture() -> str:
    """Return a picture of five clouds of cells in five colours, always the same."""
    chance = random.Random(7)
    clouds = [(300, 700, 90, 60), (420, 560, 60, 80), (700, 620, 110, 50), (620, 250, 70, 70), (160, 260, 60, 40)]
    cells = [(n % 5, *clouds[n % 5]) for n in range(thumbnail.CELLS)]
    return thumbnail.draw(
        {
            "x": [int(chance.gauss(x, wide)) for _, x, _, wide, _ in cells],
            "y": [int(chance.gauss(y, high)) for _, _, y, _, high in cells],
            "color": [cloud for cloud, *_ in cells],
            "palette": ["#6f52b5", "#3aa6a1", "#e0a030", "#d1495b", "#4f7cac"],
        }
    )


class Server(ThreadingHTTPServer):
    """A tiny site that serves the sample pages by name, static files, a picture and events, and records forms."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages = pages_samples.every_page(preview="picture.svg")
        self.events: list[dict[str, Any]] = []
        self.posted: list[tuple[str, dict[str, list[str]]]] = []
        self.asked: list[str] = []
        self.state: dict[str, Any] | None = None
        self.data: list[tuple[int, dict[str, str], Any]] = []  # status, headers and JSON; the last is repeated forever

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    """A request to that site."""

    server: Server

    def do_GET(self) -> None:
        """Send a page by its name, or one of the files that a page requests."""
        path = urlsplit(self.path).path
        name = path.strip("/").rpartition("/")[2] or "library"
        self.server.asked.append(self.path)
        if "/api/v0." in path:
            self.give_data()
        elif name in command.SCRIPTS:
            self.reply(page_scripts.TEXTS[name], KINDS[".js"])
        elif "/static/" in path:
            self.reply((STATIC / name).read_bytes(), KINDS[Path(name).suffix])
        elif name == "picture.svg":
            self.reply(picture().encode(), KINDS[".svg"])
        elif "/api/progress/" in path:
            said = [{"phase": "starting"}] if name == "unknown" else self.server.events
            stream = "retry: 200\n" + "".join(f"data: {json.dumps(each)}\n\n" for each in said)
            self.reply(stream.encode(), "text/event-stream")
        elif name == "state" and self.server.state is not None:
            self.reply(json.dumps(self.server.state).encode(), "application/json")
        elif name in self.server.pages:
            self.reply(self.server.pages[name].encode(), "text/html; charset=utf-8")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Record what a form sends, then redirect to the library as the gateway does."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "/api/v0." in self.path:
            self.server.asked.append(f"{self.path} {body}")
            self.give_data()
            return
        self.server.posted.append((self.path, parse_qs(body)))
        self.send_response(303)
        self.send_header("Location", "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        """Record what cellxgene's page saves."""
        self.do_POST()

    def give_data(self) -> None:
        """Reply to a request for data as the viewer would."""
        data = self.server.data
        status, headers, said = data.pop(0) if len(data) > 1 else data[0]
        self.reply(json.dumps(said).encode(), "application/json", status, headers)

    def reply(self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send a reply under the content security policy of the real pages."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", security.PAGE_POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(name="server")
def a_server() -> Iterator[Server]:
    site = Server()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    site.shutdown()
    thread.join()
    site.server_close()


@pytest.fixture(name="no_leftovers", autouse=True)
def no_leftovers_yet() -> None:
    """Skip the check: a browser's processes come and go between tests; `browser` checks that all end with it."""


@pytest.fixture(name="browser", scope="module")
def a_browser() -> Iterator[Browser]:
    me = psutil.Process()
    before = set(me.children(recursive=True))
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()
    until_now(lambda: set(me.children(recursive=True)) <= before)


@pytest.fixture(name="tab")
def a_tab(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a tab in its own context; the test fails if the browser reported an error in it."""
    contexts = []
    complaints: list[str] = []

    def open_tab(**how: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **how})
        context.set_default_timeout(8000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert [each for each in complaints if not any(status in each for status in ANSWERS)] == []
