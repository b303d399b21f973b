"""The main job through a real JupyterHub: real accounts, real cellxgene, a real browser."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from browser_fixtures import (
    PATIENCE,
    Person,
    a_browser,  # noqa: F401 - a fixture
    a_profile,  # noqa: F401 - a fixture
    choose,
    difference,
    picture,
    shot,
    wait_drawn,
)
from hub_fixtures import ANA, BEN, CAY, DAN, DATASET, IS_ROOT, PASSWORD, Hub, run_as, running_hub
from jupyter_fixtures import wait_until
from notebook_pages import VIEWER, cells, notebook, run_all, viewer_in
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

README_PICTURE = Path(__file__).resolve().parents[2] / "docs" / "screenshot.png"
STARTED = (ANA, BEN, CAY)  # DAN comes when his server does not run

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """One hub for this file, with all servers running but one."""
    with running_hub() as running:
        for user in STARTED:
            running.start_server(user)
        for user in STARTED:
            running.wait_server(user)
        yield running


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """The hub outlives a test; its own end is checked when it ends."""


def log_in(page: Page, user: str) -> None:
    page.fill("#username_input", user)
    page.fill("#password_input", PASSWORD)
    page.click("#login_submit")


def click_for_tab(page: Page, tile: Locator) -> Page:
    """Click what opens a tab; again if nothing came of it, as JupyterLab shows tiles a little before it heeds them."""
    for _ in range(5):
        try:
            with page.expect_popup(timeout=5000) as opened:
                tile.click()
        except PlaywrightTimeoutError:
            continue
        opened.value.set_default_timeout(PATIENCE)
        return opened.value
    raise AssertionError("no tab was opened")


def copied_link(page: Page) -> str:
    """What the button Copy link of the first dataset leaves in the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".menu summary").first.click()
    page.locator("[data-copy-link]").first.click()
    expect(page.locator("[data-copy-link] .needs-js").first).to_have_text("Copied")
    page.keyboard.press("Escape")
    return str(page.evaluate("navigator.clipboard.readText()"))


def resembles(new: Path, kept: Path) -> None:
    """Whether two pictures show the same; fonts may differ a little from machine to machine."""
    one, other = (Image.open(file).convert("RGB") for file in (new, kept))
    hint = f"{kept} shows the viewer as it once was: cp {new} {kept}"
    assert one.size == other.size, hint
    assert max(ImageStat.Stat(ImageChops.difference(one, other)).mean) < 2, hint


def label_cluster(page: Page, cluster: str, category: str, name: str) -> None:
    """Give the cells of one louvain cluster a label in a category of our own, as a person does."""
    page.get_by_test_id("open-annotation-dialog").click()
    page.get_by_test_id("new-category-name").fill(category)
    page.get_by_test_id("submit-category").click()
    choose(page, f"{category}:see-actions", f"{category}:add-new-label-to-category")
    page.get_by_test_id(f"{category}:new-label-name").fill(name)
    page.get_by_test_id(f"{category}:submit-label").click()
    page.get_by_test_id("louvain:category-select").click(force=True)  # none, under the box that is drawn over it
    page.get_by_test_id(f"categorical-value-select-louvain-{cluster}").click(force=True)
    page.get_by_test_id(f"{category}:category-expand").click()
    choose(page, f"{category}:{name}:see-actions", f"{category}:{name}:add-current-selection-to-this-label")


def labels(hub: Hub, user: str) -> list[Path]:
    return sorted((hub.home(user) / "cellxgene").rglob("cell-labels.csv"))


@pytest.mark.hazard(6)
@pytest.mark.hazard(28)
def test_from_the_tile_to_a_label_that_another_browser_finds(hub: Hub, profile: Person) -> None:
    lab = profile()
    lab.goto(hub.url)
    log_in(lab, ANA)
    tile = lab.locator(".jp-LauncherCard", has_text="cellxgene").first
    expect(tile.locator("img, svg")).to_be_visible()
    shot(lab, "hub-1-launcher")
    page = click_for_tab(lab, tile)
    card = page.get_by_role("link", name="pbmc68k_reduced").first
    expect(card).to_be_visible()
    shot(page, "hub-2-library")
    assert copied_link(page) == f"{hub.url}hub/user-redirect/cellxgene/view/{DATASET}/"
    card.click()
    expect(page.locator("#opening")).to_be_visible()
    shot(page, "hub-3-opening")
    canvas = wait_drawn(page)
    assert page.url == f"{hub.url}user/{ANA}/cellxgene/view/{DATASET}/"
    plain = picture(canvas)

    page.get_by_test_id("colorby-louvain").click()
    wait_until(lambda: difference(plain, picture(canvas)) > 1000, "the colours", 30)
    page.get_by_test_id("louvain:category-expand").click()
    expect(page.locator(".strip")).to_be_hidden()  # all genes are prepared
    resembles(shot(page, "hub-4-viewer"), README_PICTURE)

    label_cluster(page, "1", "celltype", "T cells")
    expect(page.locator("[data-testclass=autosave-complete]")).to_be_visible()
    wait_until(lambda: any("T cells" in file.read_text() for file in labels(hub, ANA)), "the saved label", 30)
    shot(page, "hub-5-labelled")

    elsewhere = profile()
    elsewhere.goto(f"{hub.url}user/{ANA}/cellxgene/view/{DATASET}/")
    log_in(elsewhere, ANA)
    wait_drawn(elsewhere)
    elsewhere.get_by_test_id("celltype:category-expand").click()
    counted = elsewhere.get_by_test_id("categorical-value-count-celltype-T cells")
    expect(counted).to_have_text(page.get_by_test_id("categorical-value-count-celltype-T cells").inner_text())
    shot(elsewhere, "hub-6-found-again")


def test_another_user_of_the_hub_is_refused(hub: Hub, profile: Person) -> None:
    with hub.client(ANA) as mine, hub.client(BEN) as other:
        for address in ("", "api/datasets", f"view/{DATASET}/"):
            assert mine.get(f"user/{ANA}/cellxgene/{address}").status_code == 200
            assert other.get(f"user/{ANA}/cellxgene/{address}").status_code == 403
    page = profile()
    page.goto(f"{hub.url}user/{ANA}/cellxgene/")
    with page.expect_response(lambda reply: "/oauth2/authorize" in reply.url and reply.status == 403):
        log_in(page, BEN)
    assert "pbmc68k" not in page.content()
    shot(page, "hub-refused")


@pytest.mark.hazard(3)
@pytest.mark.skipif(not IS_ROOT, reason="needs two unix users, which only root can make")
def test_another_unix_user_can_neither_connect_nor_read_labels(hub: Hub) -> None:
    with hub.client(ANA) as mine:
        open_dataset(mine, ANA)
    sockets = [Path(word.partition("=")[2]) for word in hub.gateway(ANA).cmdline() if word.startswith("--socket=")]
    for worker in workers(hub, ANA):
        command = worker.cmdline()
        sockets.append(Path(command[command.index("--socket") + 1]))
    assert len(sockets) >= 2
    for path in sockets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        connect = ("python3", "-c", f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})")
        assert run_as(ANA, *connect).returncode == 0
        assert "PermissionError" in run_as(BEN, *connect).stderr
    with hub.client(ANA) as mine:
        saved = {"tid": 1, "genesets": [{"geneset_name": "mine", "geneset_description": "", "genes": []}]}
        mine.put(f"user/{ANA}/cellxgene/view/{DATASET}/api/v0.2/genesets", json=saved).raise_for_status()
    (kept,) = (hub.home(ANA) / "cellxgene").rglob("gene-sets.csv")
    assert run_as(ANA, "cat", str(kept)).returncode == 0
    assert "Permission denied" in run_as(BEN, "cat", str(kept)).stderr
    hub.home(ANA).chmod(0o755)  # even where homes are open to everybody
    assert "Permission denied" in run_as(BEN, "cat", str(kept)).stderr


@pytest.mark.hazard(3)
def test_nothing_listens_on_tcp_but_the_hub_its_proxy_and_the_servers(hub: Hub) -> None:
    with hub.client(ANA) as mine:
        open_dataset(mine, ANA)
    listening = {
        each.pid: " ".join(each.cmdline())
        for each in hub.processes()
        if any(connection.status == psutil.CONN_LISTEN for connection in each.net_connections("inet"))
    }
    allowed = ("bin/jupyterhub ", "configurable-http-proxy", "jupyterhub-singleuser", "standaloneproxy")
    servers = sum(bool(each["server"]) for each in hub.api("GET", "users").json())
    assert servers >= len(STARTED)
    assert len(listening) == 2 + servers
    assert not [command for command in listening.values() if not any(word in command for word in allowed)]


def test_a_shared_link_gives_each_visitor_their_own_instance(hub: Hub, profile: Person) -> None:
    with hub.client(ANA) as mine:
        shared = mine.get(f"user/{ANA}/cellxgene/api/datasets").json()["datasets"][0]["share"]
    assert shared == f"/hub/user-redirect/cellxgene/view/{DATASET}/"
    page = profile()
    page.goto(hub.url.rstrip("/") + shared)
    log_in(page, BEN)
    wait_drawn(page)
    assert page.url == f"{hub.url}user/{BEN}/cellxgene/view/{DATASET}/"
    assert len(workers(hub, BEN)) == 1


def test_a_shared_link_starts_the_server_of_a_visitor_who_has_none_running(hub: Hub, profile: Person) -> None:
    assert hub.api("GET", f"users/{DAN}").json()["servers"] == {}
    page = profile()
    page.goto(f"{hub.url}hub/user-redirect/cellxgene/view/{DATASET}/")
    log_in(page, DAN)
    wait_drawn(page)
    assert page.url == f"{hub.url}user/{DAN}/cellxgene/view/{DATASET}/"
    assert len(workers(hub, DAN)) == 1


def test_notebook_7_offers_cellxgene_too(hub: Hub, profile: Person) -> None:
    page = profile()
    page.goto(f"{hub.url}user/{BEN}/tree")
    log_in(page, BEN)
    page.get_by_text("New", exact=True).first.click()
    shot(page, "hub-notebook-7")
    found = click_for_tab(page, page.get_by_text("cellxgene").first)
    expect(found.get_by_role("link", name="pbmc68k_reduced").first).to_be_visible()


def test_a_notebook_shows_the_viewer_in_its_output(hub: Hub, profile: Person) -> None:
    source = f"import cxg_proxy\ncxg_proxy.show({str(hub.folder / 'library' / DATASET[5:])!r}, height=480)"
    with hub.client(BEN) as mine:
        content = {"type": "notebook", "content": notebook(source)}
        mine.put(f"user/{BEN}/api/contents/show.ipynb", json=content).raise_for_status()
        page = profile()
        page.goto(f"{hub.url}user/{BEN}/lab/tree/show.ipynb")
        log_in(page, BEN)
        run_all(page)
        expect(page.locator(VIEWER)).to_have_attribute("src", f"{hub.url}user/{BEN}/cellxgene/view/{DATASET}/")
        wait_drawn(viewer_in(cells(page).first))
        shot(page, "hub-show")
        for each in mine.get(f"user/{BEN}/api/kernels").json():  # they would listen on ports
            mine.delete(f"user/{BEN}/api/kernels/{each['id']}").raise_for_status()


def test_a_double_click_in_a_users_jupyterlab_opens_a_dataset_of_their_own(hub: Hub, profile: Person) -> None:
    file = hub.home(BEN) / "mine.h5ad"
    shutil.copy(hub.folder / "library" / DATASET.partition("/")[2], file)
    if IS_ROOT:
        shutil.chown(file, BEN)
    page = profile()
    page.goto(f"{hub.url}user/{BEN}/lab/workspaces/tests")
    log_in(page, BEN)
    page.locator(".jp-DirListing-item[data-file-type=h5ad]").dblclick()
    wait_drawn(page.frame_locator(".cxg-Viewer iframe"))
    expect(page.get_by_role("tab", name="mine", exact=True)).to_be_visible()
    expect(page.locator(".cxg-Viewer").get_by_role("status")).to_have_text("Running")
    shot(page, "hub-lab-tab")


def test_without_jupyterlab_a_server_is_only_cellxgene(hub: Hub, profile: Person) -> None:
    page = profile()
    page.goto(hub.url)
    log_in(page, CAY)
    card = page.get_by_role("link", name="pbmc68k_reduced").first
    expect(card).to_be_visible()
    assert page.url == f"{hub.url}user/{CAY}/"
    card.click()
    wait_drawn(page)
    shot(page, "hub-alone")


def workers(hub: Hub, user: str) -> list[psutil.Process]:
    """The viewers that a user's gateway runs."""
    return [each for each in hub.gateway(user).children(recursive=True) if "serve" in each.cmdline()]


def open_dataset(client: httpx.Client, user: str) -> None:
    """Open the dataset as a program does, and wait until cellxgene itself answers."""
    address = f"user/{user}/cellxgene/view/{DATASET}/"
    wait_until(lambda: "window.CELLXGENE" in client.get(address).text, "cellxgene", 60)
