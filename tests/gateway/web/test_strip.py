"""What our script adds to the viewer's page, in a real Chromium: the strip of notices, and when it asks the gateway."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pages_samples import READY, VIEWER
from pages_site import HIDDEN, Server, a_browser, a_server, a_tab, no_leftovers_yet  # noqa: F401 - fixtures
from waiting import until_now

STRIPS = {
    "ready": ({}, ""),
    "closed": ({"phase": "closed"}, "This viewer was closed; nothing is lost.Reopen"),
    "changed": ({"changed": True}, "The file of this dataset has changed since it was opened.Reload"),
    "preparing": ({"preparing": 0.427}, "Preparing gene expression: 43 %"),
    "begun": ({"preparing": 0.0}, "Preparing gene expression: 0 %"),
    "prepared": ({"preparing": None, "note": ""}, ""),
    "without a store": ({"preparing": None, "note": "There is no room."}, "There is no room.×"),
    "failed": ({"phase": "failed", "problem": {"sentence": "It died."}}, "It died.What to do"),
}


@pytest.mark.hazard(27)
@pytest.mark.parametrize("case", STRIPS)
def test_in_the_viewer_the_strip_speaks_only_when_there_is_something_to_say(
    server: Server, tab: Callable[..., Page], case: str
) -> None:
    change, said = STRIPS[case]
    server.state = {**READY, **change}
    server.pages["x.h5ad"] = VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    expect(page).to_have_title("pbmc68k")
    expect(page.locator(".strip")).to_have_text(said)
    expect(page.locator(".strip")).to_be_visible(visible=bool(said))
    page.get_by_role("link", name="library").click()
    expect(page).to_have_url(server.url)


NOTICES = {
    "merged": (
        {"merged": {"kept": ["type"], "removed": [], "replaced": []}},
        "“type” was changed in another window or server of yours. Yours is saved too.Reload to see it×",
    ),
    "replaced": (
        {"merged": {"kept": ["type"], "removed": [], "replaced": ["a", "b", "c", "d"]}},
        "“a”, “b”, “c” and more was changed in another window or server of yours too. "
        "Yours is saved; the other version is kept.labels×",
    ),
    "cells": (
        {"fit": {"cells": 700, "without": 12, "gone": 3}},
        "The cells of this dataset have changed: 12 of 700 have no saved label. "
        "3 labelled cells are not in it any more; the old file is kept.labels×",
    ),
}


@pytest.mark.parametrize("case", NOTICES)
def test_in_the_viewer_what_others_did_to_labels_is_told_until_it_is_closed(
    server: Server, tab: Callable[..., Page], case: str
) -> None:
    heard, said = NOTICES[case]
    server.state, server.pages["x.h5ad"] = None, VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    tell = "heard => window.dispatchEvent(new CustomEvent('cxg-proxy', { detail: { status: 200, ...heard } }))"
    page.evaluate(tell, heard)
    server.state = READY
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page).to_have_title("pbmc68k")
    expect(page.locator(".strip")).to_have_text(said)
    for link in page.get_by_role("link", name="labels").all():
        expect(link).to_have_attribute("href", server.url + "annotations/shared/x.h5ad")
    page.get_by_role("button", name="Close").click()
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(page.locator(".strip")).to_be_hidden()


def test_in_the_viewer_labels_under_another_name_are_offered_once(server: Server, tab: Callable[..., Page]) -> None:
    server.state, server.pages["x.h5ad"] = {**READY, "offer": True}, VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    expect(page.locator(".strip")).to_contain_text("saved under another file name")
    page.get_by_role("button", name="Close").click()
    page.evaluate("window.dispatchEvent(new Event('online'))")
    page.evaluate("fetch('./asked')")
    expect(page.locator(".strip")).to_be_hidden()


@pytest.mark.hazard(27)
def test_in_the_viewer_a_lost_connection_is_told_and_found_again(server: Server, tab: Callable[..., Page]) -> None:
    server.pages["x.h5ad"] = VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    strip = page.get_by_role("status")
    expect(strip).to_have_text("The connection to the server is lost. What was saved is safe.Reload")
    server.state = READY
    page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(strip).to_be_hidden()


STATE = "/view/shared/x.h5ad/cxg-proxy/state"
SHOW = """() => {
  Object.defineProperty(Document.prototype, "visibilityState", { get: () => "visible" });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.mark.hazard(27)
def test_in_the_viewer_a_visible_tab_asks_each_minute(server: Server, tab: Callable[..., Page]) -> None:
    server.state, server.pages["x.h5ad"] = READY, VIEWER
    page = tab()
    page.clock.install()
    page.goto(server.url + "view/shared/x.h5ad/")
    expect(page).to_have_title("pbmc68k")
    page.clock.fast_forward(30_000)
    page.evaluate("fetch('./half-a-minute')")
    assert server.asked.count(STATE) == 1
    page.clock.fast_forward(31_000)
    until_now(lambda: server.asked.count(STATE) == 2)


def test_in_the_viewer_a_note_is_told_once_and_preparation_is_followed_closely(
    server: Server, tab: Callable[..., Page]
) -> None:
    server.state, server.pages["x.h5ad"] = {**READY, "preparing": 0.1, "note": "It is slow today."}, VIEWER
    page = tab()
    page.clock.install()
    page.goto(server.url + "view/shared/x.h5ad/")
    expect(page.locator(".strip")).to_have_text("It is slow today.×")
    page.get_by_role("button", name="Close").click()
    for share, said in ((0.5, "Preparing gene expression: 50 %"), (None, "")):
        server.state = {**server.state, "preparing": share}
        page.clock.run_for(2_500)
        expect(page.locator(".strip")).to_have_text(said)
    asked = server.asked.count(STATE)
    page.clock.run_for(10_000)
    page.evaluate("fetch('./ten-seconds')")
    assert server.asked.count(STATE) == asked


@pytest.mark.hazard(27)
def test_in_the_viewer_a_hidden_tab_asks_nothing_until_it_is_seen(server: Server, tab: Callable[..., Page]) -> None:
    server.state, server.pages["x.h5ad"] = READY, VIEWER
    page = tab()
    page.clock.install()
    page.add_init_script(HIDDEN)
    page.goto(server.url + "view/shared/x.h5ad/")
    page.wait_for_selector("cxg-proxy", state="attached")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.fast_forward(3_600_000)
    page.evaluate("fetch('./an-hour')")  # had the script asked for anything, that came first
    assert STATE not in server.asked
    page.evaluate(SHOW)
    until_now(lambda: STATE in server.asked)


def test_in_the_viewer_a_hidden_frame_asks_nothing_until_it_is_seen(server: Server, tab: Callable[..., Page]) -> None:
    server.state, server.pages = READY, {"x.h5ad": VIEWER, "frames": '<iframe src="view/shared/x.h5ad/"></iframe>'}
    page = tab(bypass_csp=True)
    page.clock.install()
    page.goto(server.url + "frames")
    until_now(lambda: server.asked.count(STATE) == 1)
    page.evaluate("document.querySelector('iframe').hidden = true")
    page.clock.fast_forward(3_600_000)
    page.evaluate("fetch('./an-hour')")
    assert server.asked.count(STATE) == 1
    page.evaluate("document.querySelector('iframe').hidden = false")
    page.clock.run_for(2_000)
    until_now(lambda: server.asked.count(STATE) == 2)


GENES = "api/v0.2/data/var?var:name_0=gene1"
LATER = {"message": "pbmc68k: its gene expression is still being prepared.", "steps": ["Wait until it has."]}
BUSY = {"message": "Too many computations are waiting already.", "steps": ["Wait, then try again."]}
BROKEN = {"message": "The viewer failed at this request; its log says why. Reload the page and try again."}
SAVE = {"method": "PUT", "body": "labels"}
ASK = """([target, how]) => {
  globalThis.stop = new AbortController();
  globalThis.got = fetch(target, { signal: stop.signal, ...how }).then((reply) => reply.status, (why) => why.name);
}"""


@pytest.fixture(name="ask")
def a_page_that_asks(server: Server, tab: Callable[..., Page]) -> Callable[..., Page]:
    """Have a page with a clock of its own send a request for data, and go on until that was answered once."""
    server.state, server.pages["x.h5ad"] = READY, VIEWER

    def ask(target: str = GENES, **how: str) -> Page:
        page = tab()
        page.clock.install()
        page.goto(server.url + "view/shared/x.h5ad/")
        expect(page).to_have_title("pbmc68k")
        page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))  # from here on, only a test lets time pass
        page.evaluate(ASK, [target, how])
        until_now(lambda: asked(server))
        return page

    return ask


def asked(server: Server) -> list[str]:
    return [each for each in server.asked if "/api/v0." in each]


@pytest.mark.parametrize(
    ("target", "how"),
    [(GENES, {}), ("api/v0.2/diffexp/obs", {"method": "POST", "body": "two sets"})],
)
def test_in_the_viewer_what_needs_genes_is_asked_again_until_they_are_there(
    server: Server, ask: Callable[..., Page], target: str, how: dict[str, str]
) -> None:
    later = {"Retry-After": "60"}
    server.data = [(503, later, LATER), (503, later, BUSY), (200, {}, {})]
    page = ask(target, **how)
    page.clock.fast_forward(50_000)
    page.evaluate("fetch('./fifty-seconds')")
    assert len(asked(server)) == 1
    until_now(lambda: page.clock.fast_forward(5_000) or len(asked(server)) == 3)
    assert page.evaluate("got") == 200
    assert len(set(asked(server))) == 1
    expect(page.locator(".strip")).to_have_text("")


def test_in_the_viewer_blanks_in_a_name_leave_the_page_alive(server: Server, tab: Callable[..., Page]) -> None:
    server.state, server.pages["x.h5ad"] = {**READY, "title": " two  blanks,\ta tab\nand a line "}, VIEWER
    page = tab()
    page.goto(server.url + "view/shared/x.h5ad/")
    expect(page).to_have_title("two blanks, a tab and a line")
    page.evaluate("document.title = 'CELLxGENE'")
    expect(page).to_have_title("two blanks, a tab and a line")


def test_in_the_viewer_who_waits_for_genes_hears_at_once_how_far_they_are(
    server: Server, ask: Callable[..., Page]
) -> None:
    server.data = [(503, {"Retry-After": "600"}, LATER)]
    page = ask()
    server.state = {**READY, "preparing": 0.3}
    looks = server.asked.count(STATE)
    page.clock.run_for(900)
    page.evaluate("fetch('./not-yet')")
    assert server.asked.count(STATE) == looks
    page.clock.run_for(200)  # more than a second in all
    until_now(lambda: server.asked.count(STATE) == looks + 1)
    page.clock.run_for(1_100)
    until_now(lambda: server.asked.count(STATE) == looks + 2)
    expect(page.locator(".strip")).to_have_text("Preparing gene expression: 30 %")


def test_in_the_viewer_after_half_an_hour_a_person_hears_that_genes_are_not_there(
    server: Server, ask: Callable[..., Page]
) -> None:
    server.data = [(503, {"Retry-After": "600"}, LATER)]
    page = ask()
    strip = page.locator(".strip")
    until_now(lambda: page.clock.fast_forward(20_000) or "pbmc68k" in strip.inner_text())
    expect(strip).to_have_text(f"{LATER['message']} {LATER['steps'][0]}×")
    assert page.evaluate("got") == 503
    assert 2 <= len(asked(server)) <= 4


def test_in_the_viewer_a_request_that_was_given_up_is_not_sent_again(server: Server, ask: Callable[..., Page]) -> None:
    server.data = [(503, {"Retry-After": "600"}, BUSY)]
    page = ask()
    page.evaluate("stop.abort()")
    assert page.evaluate("got") == "AbortError"
    page.clock.fast_forward(601_000)
    page.evaluate("fetch('./later')")
    assert len(asked(server)) == 1


@pytest.mark.parametrize(
    ("answer", "how", "said"),
    [
        ((500, {}, BROKEN), {}, f"{BROKEN['message']} ×"),
        (
            (502, {}, {"problem": {"sentence": "It broke off.", "steps": ["Try again."]}}),
            {},
            "It broke off. Try again.×",
        ),
        ((503, {"Retry-After": "5"}, BUSY), SAVE, f"{BUSY['message']} {BUSY['steps'][0]}×"),
    ],
)
def test_in_the_viewer_what_the_viewer_cannot_do_is_told_and_not_asked_again(
    server: Server, ask: Callable[..., Page], answer: tuple[int, dict[str, str], object], how: dict[str, str], said: str
) -> None:
    server.data = [answer]  # type: ignore[list-item]
    page = ask(GENES, **how)
    assert page.evaluate("got") == answer[0]
    expect(page.locator(".strip")).to_have_text(said)
    page.clock.fast_forward(60_000)
    page.evaluate("fetch('./a-minute')")
    assert len(asked(server)) == 1
