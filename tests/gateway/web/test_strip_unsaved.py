"""What the strip says while the last change is in the page only, and of labels that are columns by now."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from pages_samples import READY, VIEWER
from pages_site import Server, a_browser, a_server, a_tab, no_leftovers_yet  # noqa: F401 - fixtures

SAVE = "fetch('api/v0.2/annotations/obs', { method: 'PUT', body: 'labels' }).then((reply) => reply.status)"
ASK = "window.dispatchEvent(new Event('online'))"
CLOSED = {**READY, "phase": "closed"}
FULL = {"message": "The disk is full.", "steps": []}


def test_in_the_viewer_a_closed_viewer_is_no_safe_one_while_a_save_has_failed(
    server: Server, tab: Callable[..., Page]
) -> None:
    server.state, server.pages["x.h5ad"] = READY, VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    strip = page.locator(".strip")
    server.data = [(500, {}, FULL)]
    assert page.evaluate(SAVE) == 500
    expect(strip).to_contain_text("The disk is full.")
    server.state = CLOSED
    page.evaluate(ASK)
    expect(strip).to_have_text(
        "This viewer was closed before your last change was saved. Keep this page open: it tries again."
    )
    expect(strip.get_by_role("button")).to_have_count(0)  # a reload would lose the change
    server.data = [(200, {}, {})]
    assert page.evaluate(SAVE) == 200
    page.evaluate(ASK)
    expect(strip).to_have_text("This viewer was closed; nothing is lost.Reopen")


def test_in_the_viewer_labels_that_are_columns_of_the_file_are_told(server: Server, tab: Callable[..., Page]) -> None:
    server.state, server.pages["x.h5ad"] = READY, VIEWER
    server.data = [(200, {"X-Labels-Own": '["type", "\\u2603"]'}, {})]
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    page.evaluate("fetch('api/v0.2/schema')")
    expect(page.locator(".strip")).to_have_text(
        "“type”, “☃” is a column of this file now, and shown as it is there. Your labels of that name are kept.labels×"
    )
