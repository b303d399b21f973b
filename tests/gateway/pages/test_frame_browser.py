"""Our pages in a frame of a notebook or of JupyterLab, in a real Chromium: a frame keeps the dataset that it bears."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import FrameLocator, Page, expect

import pages_samples
from cxg_proxy.gateway.pages import render
from pages_samples import READY, VIEWER
from pages_site import Server, a_browser, a_server, a_tab, no_leftovers_yet  # noqa: F401 - fixtures


def framed(server: Server, page: Page, address: str) -> FrameLocator:
    """A page of the same site, as JupyterLab's is, with one of ours in a frame."""
    outer = f'<!doctype html><html lang="en"><title>Lab</title><iframe src="/{address}" width="1240" height="700">'
    page.route("**/lab", lambda route: route.fulfill(content_type="text/html", body=outer))
    page.goto(server.url + "lab")
    return page.frame_locator("iframe")


@pytest.mark.parametrize(
    ("address", "link", "to"),
    [
        ("library", "pbmc68k", "view/shared/pbmc68k.h5ad/"),
        ("library", "Open viewers", "instances"),
        ("view/shared/pbmc68k.h5ad/problem", "Back to the datasets", ""),
    ],
)
def test_in_a_frame_what_leads_to_anything_else_opens_a_tab(
    server: Server, tab: Callable[..., Page], address: str, link: str, to: str
) -> None:
    server.pages["pbmc68k.h5ad"] = server.pages["opening"]
    page = tab()
    inside = framed(server, page, address)
    with page.expect_popup() as opened:
        inside.get_by_role("link", name=link, exact=True).first.click()
    expect(opened.value).to_have_url(server.url + to)
    assert page.frames[1].url == server.url + address


def test_in_a_frame_the_way_from_the_viewer_to_the_list_opens_a_tab_and_to_its_labels_does_not(
    server: Server, tab: Callable[..., Page]
) -> None:
    server.state, server.pages["x.h5ad"] = READY, VIEWER
    page = tab()
    inside = framed(server, page, "view/shared/x.h5ad/")
    with page.expect_popup() as opened:
        inside.get_by_role("link", name="library").click()
    expect(opened.value).to_have_url(server.url)
    expect(inside.locator("a.labels")).to_have_attribute("href", server.url + "annotations/shared/x.h5ad")
    assert inside.locator("a.labels").get_attribute("target") is None


def test_in_a_frame_the_labels_of_a_dataset_lead_back_to_its_viewer_in_the_same_frame(
    server: Server, tab: Callable[..., Page]
) -> None:
    server.pages["pbmc68k.h5ad"] = server.pages["labels"]
    page = tab()
    inside = framed(server, page, "annotations/shared/pbmc68k.h5ad")
    link = inside.locator('a[href$="view/shared/pbmc68k.h5ad/"]').first
    link.evaluate("link => link.addEventListener('click', (event) => event.preventDefault())")
    link.click()
    assert link.get_attribute("target") is None


def test_a_page_that_fills_its_tab_opens_no_other(server: Server, tab: Callable[..., Page]) -> None:
    page = tab()
    page.goto(server.url + "library")
    page.get_by_role("link", name="Open viewers").click()
    expect(page).to_have_url(server.url + "instances")
    assert len(page.context.pages) == 1


def test_a_dataset_that_is_shown_alone_keeps_its_frame() -> None:
    alone = pages_samples.site("", alone=True)
    assert "frame.js" not in render.problem(alone, pages_samples.problem())
