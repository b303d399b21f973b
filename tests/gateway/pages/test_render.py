"""Rendering alone: what each state says, that nothing hostile gets through, and that every link is relative."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pages_samples as samples
from cxg_proxy import errors, formatting
from cxg_proxy.gateway.pages import models, render

VOID = {"meta", "link", "img", "input", "wbr", "path"}
TAGS = set(
    "html head title body a header span form label kbd nav main ol ul li bdi div h1 h2 h3 p svg code strong details "
    "summary dl dt dd time button section progress script noscript table thead tbody tr th td meter pre em".split()
)
ATTRIBUTES = set(
    "accept action alt aria-current aria-describedby aria-hidden aria-keyshortcuts aria-label aria-labelledby "
    "autocomplete charset class colspan content d data-copy data-copy-from data-copy-link data-phases data-prepare "
    "data-progress data-refresh data-rounds data-seconds data-soft data-title datetime defer enctype for height href "
    "http-equiv id lang loading max method min name open placeholder rel required role scope spellcheck src tabindex "
    "title type value viewbox width".split()
)


class Seen(HTMLParser):
    """What a browser makes of a page: its elements, its text, and whether every element is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.scripts = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] == ["script"]:
            self.scripts += data

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def flat(page: str) -> str:
    """The text of a page as it is read, with plain spaces."""
    return " ".join(Seen(page).text.split())


@pytest.fixture(params=sorted(samples.every_page()))
def page(request: pytest.FixtureRequest) -> Seen:
    return Seen(samples.every_page("../up/")[request.param])


# --- every page ----------------------------------------------------------------------------------------------------


def test_every_link_is_relative_and_goes_through_the_root(page: Seen) -> None:
    links = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("href", "src", "action", "data-progress", "data-soft") and "data-copy-link" not in attributes
    ]
    own = ("", "#", "#main", "#versions")
    assert [link for link in links if link not in own and not link.startswith("../up/")] == []


def test_no_page_has_a_style_or_a_script_of_its_own(page: Seen) -> None:
    assert page.scripts == ""
    assert page.named("style") == []
    assert [a for _, a in page.elements if "style" in a or any(name.startswith("on") for name in a)] == []


def test_every_page_has_its_landmarks_and_one_heading(page: Seen) -> None:
    tags = [tag for tag, _ in page.elements]
    assert [tags.count(tag) for tag in ("main", "h1", "header", "title")] == [1, 1, 1, 1]
    assert page.named("html") == [{"lang": "en"}]
    assert page.named("a")[0] == {"class": "skip", "href": "#main"}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_form_that_changes_something_carries_the_token(page: Seen) -> None:
    posts = [form for form in page.named("form") if form.get("method") == "post"]
    tokens = [field for field in page.named("input") if field.get("name") == "_xsrf"]
    assert [field["value"] for field in tokens] == ["2|token"] * len(posts)
    addresses = r"\.\./up/api/(instances/\w+/(stop|retry)|annotations/.+/(restore|adopt|upload|save|cancel))"
    assert all(re.fullmatch(addresses, form["action"]) for form in posts)


# --- hostile names -------------------------------------------------------------------------------------------------

hostile = st.text(st.characters(codec=None) | st.sampled_from("<>\"'&`/={}%#\n\0\udcff\u202e"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.just(samples.HOSTILE) | hostile)
def test_no_name_gets_out_of_its_place(name: str) -> None:
    for page in samples.hostile_pages(name).values():
        page.encode()
        seen = Seen(page)
        assert {tag for tag, _ in seen.elements} <= TAGS | VOID
        assert {name for _, attributes in seen.elements for name in attributes} <= ATTRIBUTES
        assert seen.scripts == ""
        sources = [each["src"] or "" for each in seen.named("script")]
        assert [source.partition("?")[0] for source in sources] == ["../static/page.js", "../static/frame.js"]


def test_bytes_that_are_no_text_are_shown_as_a_replacement_sign() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    card = dataclasses.replace(samples.card("x"), label=name)
    assert "caf\ufffd" in flat(render.library(samples.site(), models.LibraryView((card,), total=1)))


# --- the library ---------------------------------------------------------------------------------------------------


def listing(*cards: models.DatasetCard, **more: object) -> str:
    view = models.LibraryView(cards, **{"total": len(cards), **more})  # type: ignore[arg-type]
    return render.library(samples.site(), view)


def test_a_card_says_what_is_in_the_file_and_what_is_mine() -> None:
    card = samples.card("pbmc", phase="ready", instance="abc", labels_saved=samples.NOW - 7200)
    said = flat(listing(card, open=1))
    for part in ("1 dataset, 1 open", "68 000 cells × 32 738 genes", "2.1 GB · changed 3 days ago"):
        assert part in said
    for part in ("umap, pca", "open now", "labels saved 2 h ago", "2 100 000 000 bytes", "Link to share", "Stop"):
        assert part in said


def test_a_card_opens_its_dataset_and_offers_the_link_to_send() -> None:
    links = Seen(listing(samples.card("pbmc"))).named("a")
    assert [a["href"] for a in links if a.get("class") == "stretch"] == ["view/shared/pbmc.h5ad/"]
    shared = [a["href"] for a in links if "data-copy-link" in a]
    assert shared == ["/hub/user-redirect/cellxgene/view/shared/pbmc.h5ad/"]


def test_a_card_with_a_problem_says_it_and_still_leads_to_its_page() -> None:
    page = listing(samples.card("bad", cells=None, problem=errors.NotH5ad("bad.h5ad", detail="it is a text file")))
    assert "Not an .h5ad file: this is not an AnnData file (.h5ad) (it is a text file)." in flat(page)
    assert "view/shared/bad.h5ad/" in [a["href"] for a in Seen(page).named("a")]


def test_a_summary_that_is_being_read_makes_the_list_refresh_itself() -> None:
    page = listing(samples.card("new", cells=None, pending=True))
    assert "reading…" in flat(page)
    assert "data-refresh" in Seen(page).named("main")[0]
    assert "data-refresh" not in Seen(listing(samples.card("old"))).named("main")[0]


def test_without_script_the_list_reloads_only_while_it_is_scanned() -> None:
    assert len([m for m in Seen(listing(scanning=240)).named("meta") if "http-equiv" in m]) == 1
    assert [m for m in Seen(listing(samples.card("new", pending=True))).named("meta") if "http-equiv" in m] == []
    assert "240 found so far" in flat(listing(scanning=240))


def test_a_cut_list_names_the_limit_and_how_to_raise_it() -> None:
    said = flat(listing(samples.card("a"), limit=10_000))
    assert "Only the first 10 000 datasets are listed." in said
    assert "--scan-limit" in said


def test_an_empty_library_names_the_very_directories() -> None:
    said = flat(listing(roots=(("home", "/home/ana"), ("shared", "/srv/data"))))
    assert "/home/ana (home)" in said
    assert "/srv/data (shared)" in said


def test_a_search_without_result_says_what_was_searched() -> None:
    assert "“no such” in its name" in flat(listing(query="no such"))


def test_sorting_and_pages_keep_the_search() -> None:
    links = [a["href"] for a in Seen(listing(query="a&b", sort="size", total=99, page=3, pages=4)).named("a")]
    for link in ("?q=a%26b&sort=cells", "?q=a%26b", "?q=a%26b&sort=size&page=2", "?q=a%26b&sort=size&page=4"):
        assert link in links


def test_stopping_from_the_list_comes_back_to_the_same_page_of_it() -> None:
    page = listing(samples.card("a", instance="i"), sort="cells", page=2, pages=2)
    assert [f["value"] for f in Seen(page).named("input") if f["name"] == "next"] == ["?sort=cells&page=2"]


# --- opening, problem, instances -----------------------------------------------------------------------------------


def test_the_bar_is_determinate_only_where_the_share_is_known() -> None:
    known = render.opening(samples.site("../"), samples.opening(done=0.43))
    unknown = render.opening(samples.site("../"), samples.opening(done=None))
    assert Seen(known).named("progress")[0]["value"] == "0.430"
    assert "value" not in Seen(unknown).named("progress")[0]
    assert "Reading the dataset. 3 s, usually 7 s43 %" in flat(known)


@pytest.mark.parametrize("phase", formatting.PHASES)
def test_every_phase_has_a_sentence(phase: str) -> None:
    assert formatting.PHASES[phase] in flat(render.opening(samples.site("../"), samples.opening(phase=phase)))


def test_the_opening_page_names_the_dataset_and_cancels_back_to_the_list() -> None:
    page = Seen(render.opening(samples.site("../../"), samples.opening()))
    assert page.text.strip().startswith("Opening pbmc68k · ")
    assert {"action": "../../api/instances/abc/stop", "method": "post", "data-soft": "../../"} in page.named("form")
    assert {"type": "hidden", "name": "next", "value": "./"} in page.named("input")


def test_a_problem_says_what_which_and_what_next_with_commands_to_copy() -> None:
    page = render.problem(samples.site("../"), samples.problem())
    assert "pbmc68k.h5ad: this file has no 2-D embedding, so there is nothing to draw." in flat(page)
    commands = [button["data-copy"] for button in Seen(page).named("button") if "data-copy" in button]
    assert "cellxgene prepare FILE --output new.h5ad" in commands
    assert "`" not in Seen(page).text
    assert "Details for your administrator" in flat(page)


def test_try_again_is_a_form_for_an_instance_and_a_link_without_one() -> None:
    problem = errors.DatasetNotFound("x.h5ad")
    assert Seen(render.problem(samples.site("../"), samples.problem())).named("form")
    page = Seen(render.problem(samples.site("../"), models.ProblemView(problem)))
    assert page.named("form") == []
    assert "" in [a["href"] for a in page.named("a")]


def test_too_many_viewers_are_listed_with_their_stop_buttons() -> None:
    page = render.problem(samples.site("../"), samples.too_many())
    assert [form["action"] for form in Seen(page).named("form")] == [
        "../api/instances/ia/stop",
        "../api/instances/ib/stop",
    ]
    assert "shared/a.h5ad" in flat(page)


def test_instances_show_memory_against_the_limit_else_against_the_machine() -> None:
    page = render.instances(samples.site(), samples.rows(), samples.MACHINE)
    meters = [(m["value"], m["max"]) for m in Seen(page).named("meter")]
    assert meters == [("412000000", "4000000000"), ("3900000000", "25000000000"), ("4312000000", "25000000000")]
    assert "Your viewers use 4.3 GB of 25 GB memory; 17 GB is free." in flat(page)
    assert "They use 210 % of 2 cores" in flat(page)


def test_a_failed_viewer_offers_try_again_and_a_running_one_stop() -> None:
    forms = Seen(render.instances(samples.site(), samples.rows(), samples.MACHINE)).named("form")
    assert [form["action"].rpartition("/")[2] for form in forms] == ["stop", "retry", "stop"]


def test_a_card_offers_a_link_to_send_only_where_there_is_one() -> None:
    for share, offered in (("", False), ("/hub/user-redirect/cellxgene/view/lab/a.h5ad/", True)):
        view = models.LibraryView([samples.card("a", share=share)], total=1)
        assert ("Copy link" in render.library(samples.site(), view)) is offered
