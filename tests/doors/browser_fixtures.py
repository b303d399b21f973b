"""A real Chromium for the doors: fresh profiles, and what can be seen on their pages."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_fixtures import wait_until
from PIL import Image, ImageChops
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

ARTEFACTS = Path(os.environ.get("CXG_ARTEFACTS", "build/artefacts"))
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
PATIENCE = 60_000  # milliseconds, for what starts processes


@pytest.fixture(name="browser", scope="module")
def a_browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE / 2)  # five seconds are too few for a page on a busy machine
    with sync_playwright() as playwright:
        root = ("--no-sandbox",) if os.getuid() == 0 else ()  # Chromium refuses to run as root with it
        program = shutil.which(os.environ.get("CHROMIUM") or "chromium") or shutil.which("google-chrome")
        chromium = playwright.chromium.launch(executable_path=program, args=[*QUIET, *root])
        yield chromium
        chromium.close()


Person = Callable[[], Page]


@pytest.fixture(name="profile")
def a_profile(browser: Browser) -> Iterator[Person]:
    """Fresh browser profiles, each knowing nothing of the others."""
    made = []

    def fresh() -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE)
        made.append(context)
        return context.new_page()

    yield fresh
    for each in made:
        each.close()


def shot(page: Page, name: str) -> Path:
    """Keep how a page looks, as an artefact of the tests."""
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png")
    return ARTEFACTS / f"{name}.png"


def picture(canvas: Locator) -> Image.Image:
    """The canvas as it looks, without its upper and lower edges, where cellxgene's buttons lie."""
    whole = Image.open(io.BytesIO(canvas.screenshot())).convert("RGB")
    return whole.crop((0, 60, whole.width, whole.height - 60))


def ink(image: Image.Image) -> int:
    """How many pixels are not white."""
    return sum(count for count, colour in image.getcolors(1 << 24) or () if colour != (255, 255, 255))


def difference(one: Image.Image, other: Image.Image) -> int:
    """How many pixels differ."""
    return ink(ImageChops.invert(ImageChops.difference(one, other)))


def wait_drawn(page: Page | FrameLocator) -> Locator:
    """The viewer's canvas, once the cells are on it."""
    canvas = page.get_by_test_id("layout-graph")
    canvas.wait_for()
    wait_until(lambda: ink(picture(canvas)) > 1000, "the cells", 30)
    return canvas


def choose(page: Page, menu: str, action: str) -> None:
    """Choose from one of cellxgene's menus; they open under the pointer, unless the list moves at that moment."""
    for _ in range(10):
        page.mouse.move(0, 0)
        page.get_by_test_id(menu).hover()
        with contextlib.suppress(PlaywrightTimeoutError):
            page.get_by_test_id(action).click(timeout=3000)
            return
    raise AssertionError(f"{menu} did not open")
