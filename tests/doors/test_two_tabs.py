"""Two windows, two servers, one home: a person edits in both, as with a laptop and a cluster, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anndata
import httpx
import pytest
from browser_fixtures import (
    Person,
    a_browser,  # noqa: F401 - a fixture
    a_profile,  # noqa: F401 - a fixture
    choose,
    shot,
    wait_drawn,
)
from jupyter_fixtures import wait_until
from playwright.sync_api import Page, expect

import cxg_proxy
from cxg_proxy import annotations
from cxg_proxy.annotations import tables
from pbmc import write_pbmc

pytestmark = pytest.mark.timeout(300)

TOKEN = "two-windows"
SECONDS = 60  # of editing
CLUSTERS = 11  # in the dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a home for both servers."""
    place = tmp_path_factory.mktemp("two")
    (place / "data").mkdir()
    write_pbmc(place / "data" / "pbmc.h5ad")
    return place


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def gateway(folder: Path, name: str, *options: str) -> Iterator[str]:
    """A gateway of its own, on a port for the browser; its address."""
    port = free_port()
    command = [sys.executable, "-m", "cxg_proxy", f"--port={port}", f"--token={TOKEN}"]
    command += [f"--library=data={folder / 'data'}", f"--home={folder / 'home'}", f"--viewer-python={sys.executable}"]
    command += [f"--Gateway.cache={folder / name}", f"--Gateway.logs={folder / name}"]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *options], stdout=log, stderr=log, cwd=folder, env={**os.environ, "TMPDIR": "/tmp"}
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_until(lambda: answers(url), "the gateway", 30)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}api/health").status_code == 200
    return False


@pytest.fixture(scope="module")
def laptop(folder: Path) -> Iterator[str]:
    with gateway(folder, "laptop") as url:
        yield url


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[str]:
    with gateway(folder, "cluster") as url:
        yield url


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """The gateways outlive a test."""


def opened(profile: Person, url: str) -> Page:
    page = profile()
    page.goto(f"{url}view/data/pbmc.h5ad/?token={TOKEN}")
    wait_drawn(page)
    return page


def select(page: Page, cluster: str) -> None:
    """Select the cells of one louvain cluster and no others."""
    one = page.get_by_test_id(f"categorical-value-select-louvain-{cluster}")
    if not one.count():
        page.get_by_test_id("louvain:category-expand").click()
    every = page.get_by_test_id("louvain:category-select")
    while every.is_checked() or every.evaluate("box => box.indeterminate"):
        every.click(force=True)  # under the box that is drawn over it
    one.click(force=True)


class Window:
    """Somebody labels clusters in one category; what was clicked is remembered."""

    def __init__(self, page: Page, clusters: dict[str, str], category: str):
        self.page, self.category, self.rounds = page, category, 0
        self._clusters = clusters
        self.clicked = dict.fromkeys(clusters, tables.UNASSIGNED)

    def add_category(self) -> None:
        self.page.get_by_test_id("open-annotation-dialog").click()
        self.page.get_by_test_id("new-category-name").fill(self.category)
        self.page.get_by_test_id("submit-category").click()

    def label(self) -> str:
        """Give the cells of one more cluster a new label; after the last it is the first one's turn again."""
        self.rounds += 1
        cluster, label = str(self.rounds % CLUSTERS), f"{self.category} {self.rounds}"
        select(self.page, cluster)
        choose(self.page, f"{self.category}:see-actions", f"{self.category}:add-new-label-to-category")
        self.page.get_by_test_id(f"{self.category}:new-label-name").fill(label)
        self.page.get_by_role("button", name="Add label & assign").click()
        self.clicked |= {cell: label for cell, its in self._clusters.items() if its == cluster}
        return label

    def wait_saved(self) -> None:
        """Wait until the page says that everything is saved."""
        expect(self.page.locator("[data-testclass=autosave-complete]").first).to_be_visible(timeout=30_000)

    def add_gene_set(self, name: str, genes: str) -> None:
        self.page.get_by_test_id("open-create-geneset-dialog").click()
        self.page.get_by_test_id("create-geneset-input").fill(name)
        self.page.get_by_test_id("add-genes").fill(genes)
        self.page.get_by_test_id("submit-geneset").click()


@pytest.fixture(scope="module")
def clusters(folder: Path) -> dict[str, str]:
    obs = anndata.read_h5ad(folder / "data" / "pbmc.h5ad").obs
    return dict(zip(obs.index, obs["louvain"].astype(str), strict=True))


def labels_of(where: Path) -> dict[str, dict[str, str]]:
    """What is saved: category → cell → label."""
    table = tables.read_labels(annotations.read(where, annotations.LABELS) or b"")
    return {name: dict(zip(table.cells, labels, strict=True)) for name, labels in table.columns.items()}


def test_a_minute_of_labelling_in_two_windows_on_two_servers_loses_nothing(
    laptop: str, cluster: str, folder: Path, clusters: dict[str, str], profile: Person
) -> None:
    windows = [
        Window(opened(profile, laptop), clusters, "on the laptop"),
        Window(opened(profile, cluster), clusters, "on the cluster"),
    ]
    for each in windows:
        each.add_category()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for each in windows:
            each.label()
    for each in windows:
        each.add_gene_set(f"set {each.category}", "CD8A, NKG7" if each is windows[0] else "CD79A")
    (where,) = (folder / "home").iterdir()
    for each in windows:
        wait_until(lambda: labels_of(where).get(each.category) == each.clicked, f"all of {each.category}", 30)  # noqa: B023
        each.wait_saved()
        shot(each.page, f"two-windows-{each.category.replace(' ', '-')}")
    assert labels_of(where) == {each.category: each.clicked for each in windows}
    wait_until(lambda: len(cxg_proxy.gene_sets(folder / "data" / "pbmc.h5ad", home=folder / "home")) == 2, "sets", 30)
    strip = windows[0].page.locator(".strip")
    expect(strip).to_contain_text("was changed in another window or server of yours. Yours is saved too.")

    windows[0].page.reload()
    wait_drawn(windows[0].page)
    for each in windows:
        expect(windows[0].page.get_by_test_id(f"{each.category}:category-expand")).to_be_visible()
        expect(windows[0].page.get_by_test_id(f"set {each.category}:geneset-expand")).to_be_visible()
    assert not any(each.lost for each in annotations.versions(where))


def test_what_was_clicked_is_in_the_notebook(folder: Path) -> None:
    (where,) = (folder / "home").iterdir()
    data = anndata.read_h5ad(folder / "data" / "pbmc.h5ad")
    annotated = cxg_proxy.annotate(data, home=folder / "home")
    for name, clicked in labels_of(where).items():
        assert dict(annotated.obs[name]) == clicked
        assert annotated.obs[name].dtype == "category"
    sets = cxg_proxy.gene_sets(folder / "data" / "pbmc.h5ad", home=folder / "home")
    assert sets == {"set on the laptop": ["CD8A", "NKG7"], "set on the cluster": ["CD79A"]}


def test_of_the_same_category_in_two_windows_the_newest_is_current_and_the_other_can_be_restored(
    laptop: str, cluster: str, folder: Path, clusters: dict[str, str], profile: Person
) -> None:
    one = Window(opened(profile, laptop), clusters, "shared")
    one.add_category()
    (where,) = (folder / "home").iterdir()
    wait_until(lambda: "shared" in labels_of(where), "the category", 30)
    other = Window(opened(profile, cluster), clusters, "shared")
    first = one.label()
    wait_until(lambda: first in labels_of(where)["shared"].values(), "the first window's label", 30)
    other.rounds = 3
    second = other.label()
    wait_until(lambda: second in labels_of(where)["shared"].values(), "the second window's label", 30)
    assert labels_of(where)["shared"] == other.clicked
    expect(other.page.locator(".strip")).to_contain_text(
        "“shared” was changed in another window or server of yours too"
    )
    shot(other.page, "two-windows-same-category")

    (lost,) = [each for each in annotations.versions(where) if each.lost]
    annotations.restore(where, lost.id)
    assert labels_of(where)["shared"] == one.clicked
    third = other.label()  # the window that had replaced it saves again
    wait_until(lambda: third in labels_of(where)["shared"].values(), "the third label", 30)
    assert labels_of(where)["shared"] == other.clicked
    assert b"shared 1" in annotations.read_version(where, lost.id)


def test_a_save_that_fails_is_told_in_the_viewer_and_the_next_one_has_all_of_it(
    laptop: str, folder: Path, clusters: dict[str, str], profile: Person
) -> None:
    window = Window(opened(profile, laptop), clusters, "after all")
    window.add_category()
    (where,) = (folder / "home").iterdir()
    wait_until(lambda: "after all" in labels_of(where), "the category", 30)
    window.wait_saved()
    before = annotations.read(where, annotations.LABELS)
    aside = where.rename(where.with_name("aside"))
    where.write_text("not a folder")
    window.label()
    expect(window.page.get_by_text("Save error")).to_be_visible(timeout=30_000)
    expect(window.page.locator(".strip")).to_contain_text("could not be saved; the version saved before is untouched")
    shot(window.page, "two-windows-not-saved")
    where.unlink()
    aside.rename(where)
    assert annotations.read(where, annotations.LABELS) == before
    window.label()
    wait_until(lambda: labels_of(where)["after all"] == window.clicked, "both labels", 30)
    window.wait_saved()
    expect(window.page.locator(".strip")).to_be_hidden()
