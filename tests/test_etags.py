"""Tags of replies, and whether a browser's If-None-Match names them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_etags

from cxg_proxy.etags import digest, holds, not_modified, tag

OURS = tag("as it is", "/api/v0.2/layout/obs?layout-name=umap", "application/octet-stream")
TAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), max_size=12)
WORDS = st.tuples(st.text(), st.text(), st.text())
SPACE = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def lists(draw: st.DrawFn) -> tuple[str, set[str]]:
    """A list of tags as RFC 9110 has it, and the tags in it; commas may stand in a tag, and between no tags."""
    tags = [f"{draw(st.text('!#,-~', max_size=5))}" for _ in range(draw(st.integers(0, 5)))]
    tags += draw(st.lists(TAGS.filter(lambda text: not any("\x80" <= c < "\xa0" for c in text)), max_size=3))
    parts = [draw(SPACE) + draw(st.sampled_from(["", "W/"])) + f'"{each}"' + draw(SPACE) for each in tags]
    parts[len(parts) :] = draw(st.lists(SPACE, max_size=2))
    return ",".join(draw(st.permutations(parts))), set(tags)


@given(WORDS, WORDS)
def test_a_tag_names_one_state_of_one_reply(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (tag(*one) == tag(*other)) == (one == other)


def test_words_do_not_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")


@pytest.mark.parametrize(
    "header",
    [f'W/"{OURS}"', f'"{OURS}"', f'"x", W/"{OURS}"', f'W/"a,b" ,\t"{OURS}",', f', ,"{OURS}"', f'"", "\xe9", "{OURS}"'],
)
def test_a_tag_is_found_in_a_list(header: str) -> None:
    assert holds(header, OURS)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "*",
        OURS,
        f"W/{OURS}",
        f'w/"{OURS}"',
        f'"{OURS}',
        f'"{OURS}" garbage',
        f'garbage "{OURS}"',
        f'"a"{OURS}"b"',
        f'"a" "{OURS}"',
        f'*, "{OURS}"',
        f'"x{OURS}"',
        f'"{OURS.upper()}"',
        f'"{OURS}"\0',
        f'"{OURS}", ' + '"x",' * 10_000,  # whoever sends this asks the worker
    ],
)
def test_what_is_no_list_of_tags_or_names_others_holds_none(header: str) -> None:
    assert not holds(header, OURS)


@given(lists(), st.booleans())
def test_every_tag_of_a_list_is_found_and_no_other(drawn: tuple[str, set[str]], ours: bool) -> None:
    header, tags = drawn
    if ours:
        header, tags = f'{header},W/"{OURS}"', {*tags, OURS}
    assert all(holds(header, each) for each in tags)
    assert holds(header, OURS) == ours


@given(st.one_of(st.text(max_size=200), st.text('W/"*, \tx', max_size=60), st.binary(max_size=99).map(bytes.hex)))
def test_garbage_is_no_error_and_never_more_than_the_worker_would_find(header: str) -> None:
    for wanted in ("x", OURS):  # werkzeug knows no empty tag
        assert not holds(header, wanted) or parse_etags(header).contains_weak(wanted)


def test_a_huge_header_costs_no_more_than_its_length_allows() -> None:
    for piece in (" ", '"', ",", 'W/"', '"x" ', '"x",', "W/" * 2):
        assert not holds(piece * 4000, OURS)


def test_a_reply_without_a_body_says_what_the_whole_one_said() -> None:
    said = dict(not_modified(OURS))
    assert said["ETag"] == f'W/"{OURS}"'
    assert said["Cache-Control"] == "private, no-cache"
