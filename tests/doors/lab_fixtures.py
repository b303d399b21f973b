"""JupyterLab with this package's extension: a user's folder with datasets, and what a person does there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from browser_fixtures import Person, wait_drawn
from jupyter_fixtures import TOKEN, JupyterServer, jupyter_server
from playwright.sync_api import FrameLocator, Locator, Page, expect

from pbmc import write_pbmc

HOSTILE = "a?b#c %41  'q'\t\"<b>x&amp; .h5ad"
NEWS = "@jupyterlab/apputils-extension:notification"  # JupyterLab would ask about them, over everything
CONFIG = """
c = get_config()
c.LabApp.expose_app_in_browser = True
"""
GATEWAY = """
c = get_config()
c.Gateway.follow_symlinks = False
"""
WORKSPACES = count()  # the server keeps the open tabs of each


@dataclass
class Lab:
    """JupyterLab on a page."""

    page: Page
    server: JupyterServer
    address: str

    def files(self, name: str) -> Locator:
        """A file in the file browser."""
        named = self.page.get_by_text(name, exact=True)
        return self.page.locator(".jp-DirListing-item").filter(has=named)

    def menu(self, name: str, *entries: str) -> None:
        """Choose from a file's menu."""
        self.files(name).click(button="right")
        for entry in entries:
            self.page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()

    def command(self, words: str) -> None:
        """Choose from the command palette, by keyboard."""
        self.page.keyboard.press("Control+Shift+C")
        self.page.get_by_placeholder("Search commands").or_(self.page.locator(".lm-CommandPalette-input")).fill(words)
        expect(self.page.locator(".lm-CommandPalette-item.lm-mod-active")).to_contain_text(words)
        self.page.keyboard.press("Enter")

    def tab(self, title: str) -> Locator:
        return self.page.locator("#jp-main-dock-panel").get_by_role("tab", name=title, exact=True)

    @property
    def shown(self) -> Locator:
        """The dataset whose tab is shown."""
        return self.page.locator(".cxg-Viewer:visible")

    @property
    def state(self) -> Locator:
        return self.shown.get_by_role("status")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def viewer(self) -> FrameLocator:
        """The viewer's page in the tab that is shown, once its cells are drawn."""
        frame = self.page.frame_locator(".cxg-Viewer:visible iframe")
        wait_drawn(frame)
        return frame


@pytest.fixture(name="home", scope="module")
def a_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's folder: a dataset, one with a hostile name, and one that lies outside every library."""
    folder = tmp_path_factory.mktemp("lab") / "work"
    (folder / "data").mkdir(parents=True)
    (folder.parent / "elsewhere").mkdir()
    write_pbmc(folder / "pbmc.h5ad")
    for copy in (HOSTILE, "data/deep.h5ad", "../elsewhere/outside.h5ad"):
        shutil.copy(folder / "pbmc.h5ad", folder / copy)
    (folder / "outside.h5ad").symlink_to(folder.parent / "elsewhere" / "outside.h5ad")
    return folder


def settings(folder: Path) -> Path:
    """A configuration for JupyterLab and the gateway."""
    (folder / "labconfig").mkdir(parents=True)
    quiet = {NEWS: {"fetchNews": "false", "checkForUpdates": False}}
    (folder / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(quiet))
    (folder / "jupyter_lab_config.py").write_text(CONFIG)
    (folder / "cxg_proxy_config.py").write_text(f"{GATEWAY}c.Gateway.home = {str(folder / 'own place')!r}\n")
    return folder


@pytest.fixture(name="server", scope="module")
def a_server(home: Path) -> Iterator[JupyterServer]:
    folder = home.parent
    with jupyter_server(folder / "server", home, JUPYTER_CONFIG_PATH=str(settings(folder / "etc"))) as running:
        yield running


Opened = Callable[..., Lab]


@pytest.fixture(name="lab")
def a_lab(server: JupyterServer, profile: Person) -> Opened:
    """Open JupyterLab in a fresh profile and a fresh workspace."""

    def opened(page: Page | None = None) -> Lab:
        lab = Lab(page or profile(), server, f"{server.url}lab/workspaces/tests-{next(WORKSPACES)}")
        lab.page.goto(f"{lab.address}?token={TOKEN}")
        lab.files("pbmc.h5ad").wait_for()
        return lab

    return opened


def stop_all(page: Page, server: JupyterServer) -> None:
    """Stop what runs, on the gateway's own page, as a person does."""
    page.goto(f"{server.url}cellxgene/instances?token={TOKEN}")
    stops = page.get_by_role("button", name="Stop", exact=True)
    for left in reversed(range(stops.count())):
        stops.first.click()
        expect(stops).to_have_count(left)
