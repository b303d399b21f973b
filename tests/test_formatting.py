"""Numbers, sizes, times and names as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pages_samples as samples
from cxg_proxy import formatting


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (81_200, "81 kB"), (999_600, "1 MB"), (2_100_000_000, "2.1 GB"),
     (9_960_000, "10 MB"), (3e18, "3000 PB")],
)  # fmt: skip
def test_sizes_are_si(value: float, said: str) -> None:
    assert formatting.size(value).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("age", "said"),
    [(-3600, "in the future"), (-5, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "59 min ago"),
     (7300, "2 h ago"), (86400, "yesterday"), (3 * 86400, "3 days ago"), (65 * 86400, "2 months ago"),
     (400 * 86400, "1 year ago"), (800 * 86400, "2 years ago")],
)  # fmt: skip
def test_ages_are_told_in_one_unit(age: float, said: str) -> None:
    assert formatting.ago(samples.NOW - age, samples.NOW).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (80, "1 min 20 s"), (3599.7, "1 h"), (7500, "2 h 5 min")],
)
def test_durations_are_told_in_two_units(seconds: float, said: str) -> None:
    assert formatting.duration(seconds).replace("\u00a0", " ") == said


def test_a_time_has_its_exact_form_for_pointer_and_machine() -> None:
    assert formatting.when(samples.NOW - 180, samples.NOW) == (
        '<time datetime="2026-05-28T20:23:40+00:00" title="28 May 2026, 20:23 UTC">3\u00a0min ago</time>'
    )


@given(st.floats(), st.floats(0, 4e9))
def test_any_time_a_file_may_claim_can_be_shown(then: float, now: float) -> None:
    assert re.fullmatch(r"<time [^<>]+>[^<>]+</time>|at an unknown time", formatting.when(then, now))


@given(st.text())
def test_cutting_a_name_for_line_breaks_loses_nothing(name: str) -> None:
    assert "".join(formatting.parts(name)) == name


@given(st.text(st.sampled_from("ab `")))
def test_cutting_a_step_at_its_commands_loses_nothing(step: str) -> None:
    assert "".join(text for _, text in formatting.pieces(step)) == step.replace("`", "")
