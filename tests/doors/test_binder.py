"""The demo of a Binder: its very files make an image, and a real browser follows the very links of its README."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator

import pytest
from binder_fixtures import BASE, Image, Server, built_image, visitors_server
from binder_links import NOTEBOOK, VIEWER
from browser_fixtures import ARTEFACTS, PATIENCE, Person, a_browser, a_profile, shot, wait_drawn  # noqa: F401
from notebook_pages import VIEWER as SHOWN
from notebook_pages import run_all
from playwright.sync_api import expect

pytestmark = pytest.mark.timeout(600)  # the image is built once, by the test that comes first


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with built_image() as built:
        yield built


@pytest.fixture
def server(image: Image) -> Iterator[Server]:
    with visitors_server(image) as running:
        yield running


def test_the_link_opens_the_drawn_viewer(image: Image, server: Server, profile: Person) -> None:
    page = profile()
    begin = time.monotonic()
    page.goto(server.link(VIEWER))
    wait_drawn(page)
    seconds = {**image.seconds, "link to drawn viewer, cold": time.monotonic() - begin}
    shot(page, "binder-viewer")
    told = "".join(f"{what}: {value:.1f} s\n" for what, value in seconds.items())
    (ARTEFACTS / "binder-times.txt").write_text(told)
    print(f"\n{told}")  # noqa: T201 - how long it takes depends on the machine
    assert page.get_by_test_id("louvain:category-expand").is_visible()
    state = server.get("cellxgene/api/datasets").json()
    assert [(each["name"], each["phase"]) for each in state["datasets"]] == [("demo/pbmc68k_reduced.h5ad", "ready")]


def test_a_visitor_waits_for_nothing_that_the_image_can_hold(image: Image, server: Server, profile: Person) -> None:
    page = profile()
    page.goto(server.link(VIEWER))
    wait_drawn(page)
    assert not [*image.home.glob(".cache/cxg-proxy/stores/*")], "the prepared store was not used"
    assert not {each.suffix for each in image.home.rglob("__pycache__/*")} & {".nbi", ".nbc"}
    assert image.installed() == image.built, "byte code or machine code was compiled for the visitor"
    kinds = {each.suffix for each in image.built if each.match("cxg_proxy/viewer/compute/__pycache__/*")}
    assert kinds == {".pyc", ".nbi", ".nbc"}


def test_no_package_of_the_image_lacks_another_or_wants_another_version(image: Image) -> None:
    check = [str(image.prefix / "bin" / "python"), "-m", "pip", "check"]
    done = subprocess.run(check, env=image.environment(), cwd=image.home, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if not line.startswith("No broken requirements")]
    # A newer Python than runtime.txt's has the one deliberate exception, see requirements/overrides.txt.
    assert [line for line in complaints if not re.match(r"cellxgene .* numpy", line)] == []
    assert done.stdout.strip()


def test_the_notebook_runs_through(image: Image) -> None:
    notebook = image.binder / "demo.ipynb"
    done = image.folder / "tmp" / "done.ipynb"
    image.run(str(image.binder / "start"), "jupyter-execute", f"--output={done}", notebook.name, cwd=image.binder)
    outputs = [each for cell in json.loads(done.read_text())["cells"] for each in cell.get("outputs", ())]
    assert {each["output_type"] for each in outputs} == {"execute_result", "display_data"}  # no error, no warning
    data = [each["data"] for each in outputs]
    assert any("image/png" in each for each in data)
    assert any("T cells" in "".join(each["text/plain"]) for each in data)
    assert any("pbmc68k_reduced.h5ad" in "".join(each["text/plain"]) and "text/html" in each for each in data)


def test_the_second_link_opens_the_notebook_and_what_it_labels_is_in_the_viewer(
    image: Image, server: Server, profile: Person
) -> None:
    page = profile()
    page.goto(server.link(NOTEBOOK))
    page.get_by_role("heading", name="Label cells in the viewer and in Python").wait_for()
    run_all(page)
    page.locator(".jp-OutputArea-output img").wait_for()
    expect(page.get_by_text("Jupyter news")).to_have_count(0)  # JupyterLab would ask, over the picture
    shot(page, "binder-notebook")
    page.locator(SHOWN).scroll_into_view_if_needed()
    wait_drawn(page.frame_locator(SHOWN))
    shot(page, "binder-notebook-viewer")
    viewer = profile()
    viewer.goto(server.link(VIEWER))
    wait_drawn(viewer)
    viewer.get_by_test_id("cell type:category-expand").click()
    count = viewer.get_by_test_id("categorical-value-count-cell type-dendritic cells")
    (saved,) = image.home.glob("cellxgene/*/cell-labels.csv")
    expect(count).to_have_text(str(saved.read_text().count("dendritic cells")))
    shot(viewer, "binder-labels")


def test_a_link_that_lost_its_slash_opens_the_viewer_too_and_hides_the_token(server: Server, profile: Person) -> None:
    page = profile()
    page.goto(server.link(VIEWER.rstrip("/")))
    wait_drawn(page)
    assert page.url == f"{server.root}{BASE}{VIEWER}"


def test_without_the_token_nobody_gets_in(server: Server, profile: Person) -> None:
    page = profile()
    page.goto(f"{server.root}{BASE}{VIEWER}")
    assert page.url.startswith(f"{server.root}{BASE}login")


def test_jupyterlab_has_the_extension_and_the_image_nothing_of_what_built_it(image: Image) -> None:
    assert (image.prefix / "share" / "jupyter" / "labextensions" / "cxg-proxy" / "install.json").is_file()
    assert not [*image.home.rglob("node_modules"), *image.home.rglob("_cacache")]
