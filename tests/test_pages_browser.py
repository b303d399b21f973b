"""The rendered pages in a real Chromium: how they look, that axe finds nothing, and that they work with and without script."""

from __future__ import annotations

import json
import os
import random
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pages_samples
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from cxg_proxy import pages, preview, safety

STATIC = Path(str(resources.files("cxg_proxy"))) / "static"
ARTEFACTS = Path(os.environ.get("CXG_ARTEFACTS", "build/artefacts"))
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SIZES = {"wide": (1280, 800), "narrow": (360, 740)}
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")


def picture() -> str:
    """Three clouds of cells in three colours, always the same."""
    chance = random.Random(7)
    clouds = [(300, 700, 90, 60), (420, 560, 60, 80), (700, 620, 110, 50), (620, 250, 70, 70), (160, 260, 60, 40)]
    cells = [(n % 5, *clouds[n % 5]) for n in range(preview.CELLS)]
    return preview.draw(
        {
            "x": [int(chance.gauss(x, wide)) for _, x, _, wide, _ in cells],
            "y": [int(chance.gauss(y, high)) for _, _, y, _, high in cells],
            "color": [cloud for cloud, *_ in cells],
            "palette": ["#6f52b5", "#3aa6a1", "#e0a030", "#d1495b", "#4f7cac"],
        }
    )


class Server(ThreadingHTTPServer):
    """A tiny site: the sample pages by name, our static files, one picture, events, and the forms it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages = pages_samples.every_page(preview="picture.svg")
        self.events: list[dict[str, Any]] = []
        self.posted: list[tuple[str, str]] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        name = path.strip("/").rpartition("/")[2] or "library"
        if "/static/" in path:
            self.reply((STATIC / name).read_bytes(), KINDS[Path(name).suffix])
        elif name == "picture.svg":
            self.reply(picture().encode(), KINDS[".svg"])
        elif "/api/progress/" in path:
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in self.server.events)
            self.reply(lines.encode(), "text/event-stream")
        elif name == "state":
            self.reply(self.server.pages["state"].encode(), "application/json")
        elif name in self.server.pages:
            self.reply(self.server.pages[name].encode(), "text/html; charset=utf-8")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.posted.append((self.path, body))
        self.send_response(303)
        self.send_header("Location", "/")
        self.end_headers()

    def reply(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", safety.PAGE_POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    site = Server()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    site.shutdown()
    thread.join()
    site.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=QUIET
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


def address(server: Server, name: str) -> str:
    deep = name.startswith(("opening", "problem"))
    return server.url + ("view/shared/pbmc68k.h5ad/" if deep else "") + name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_page_has_an_accessibility_violation_or_a_sideways_scrollbar(
    server: Server, browser: Browser, size: str, scheme: Any
) -> None:
    width, height = SIZES[size]
    server.events = [{"phase": "loading", "done": 0.43, "elapsed": 3.2}]
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    found = {}
    for name in server.pages:
        page.goto(address(server, name))
        page.screenshot(path=str(ARTEFACTS / f"{name}-{size}-{scheme}.png"), full_page=True)
        found[name] = [f"{each['id']}: {each['nodes'][0]['html']}" for each in Axe().run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found[name].append("scrolls sideways")
    context.close()
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
