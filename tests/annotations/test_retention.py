"""Which versions are kept when there are too many, as pure arithmetic."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from cxg_proxy.annotations import retention
from cxg_proxy.annotations.retention import VersionFile

NOW = datetime(2026, 3, 5, 15, 30, tzinfo=timezone.utc).timestamp()
MINUTE, HOUR, DAY = 60, 3600, 86_400


def saved_over_time(gaps: list[int], limit: int, size: int = 100) -> tuple[list[VersionFile], list[VersionFile], int]:
    """All versions that were saved, those left after thinning at each save, and the last time."""
    everything: list[VersionFile] = []
    left: list[VersionFile] = []
    now = round(NOW * 1000)
    for number, gap in enumerate(gaps):
        now += gap
        new = VersionFile(retention.stamp(now), "labels", f"{number:016x}", size, f"{number}")
        everything.append(new)
        gone = set(retention.to_remove([*left, new], now, limit))
        left = [version for version in [*left, new] if version not in gone]
    return everything, left, now


GAPS = st.lists(
    st.one_of(st.integers(1, 5000), st.integers(1, 20 * 60_000), st.integers(1, 3 * DAY * 1000)),
    min_size=1,
    max_size=150,
)


@given(GAPS)
@settings(deadline=None)
def test_thinning_keeps_the_last_of_each_minute_hour_and_day_and_all_of_ten_minutes(gaps: list[int]) -> None:
    everything, left, now = saved_over_time(gaps, 10**12)
    kept = set(left)
    assert everything[-1] in kept
    for version, following in pairwise(everything):
        age = now - retention.milliseconds(following.stamp)  # it was the current version until then
        letters = 18 if age <= 600_000 else 13 if age <= HOUR * 1000 else 11 if age <= DAY * 1000 else 8
        last_of_its_time = version.stamp[:letters] != following.stamp[:letters]
        if age <= 600_000 or (age <= 365 * DAY * 1000 and last_of_its_time):
            assert version in kept


@given(GAPS)
@settings(deadline=None)
def test_thinning_leaves_one_of_a_minute_then_of_an_hour_then_of_a_day(gaps: list[int]) -> None:
    _, left, now = saved_over_time(gaps, 10**12)
    for older, letters in ((600_000, 13), (HOUR * 1000, 11), (DAY * 1000, 8)):
        # A version counts from the moment when it was replaced, so one more may stand at each border.
        old = [version for version in left[:-2] if retention.milliseconds(version.stamp) < now - older - DAY * 1000]
        times = [version.stamp[:letters] for version in old]
        assert len(times) == len(set(times))
    recent = sum(now - retention.milliseconds(version.stamp) <= 600_000 for version in left)
    assert len(left) <= recent + 62 + 26 + 368


@given(GAPS, st.integers(4, 40))
@settings(deadline=None)
def test_the_limit_holds_and_takes_what_lies_between_days_first_and_the_oldest_of_it(
    gaps: list[int], most: int
) -> None:
    everything, _, now = saved_over_time(gaps, 10**12)
    unlimited = set(retention.to_remove(everything, now, 10**12))
    before = [version for version in everything if version not in unlimited]
    gone = set(retention.to_remove(before, now, most * 4096))
    left = [version for version in before if version not in gone]
    assert len(left) == min(len(before), most)
    days = {version.stamp[:8]: version for version in before}  # the last of each
    between = [version for version in before if days[version.stamp[:8]] is not version]
    assert [version for version in between if version in gone] == between[: len(gone & set(between))]
    if gone - set(between):
        assert set(between) <= gone
    assert before[-1] in left


def test_a_storm_of_saves_every_two_and_a_half_seconds_leaves_yesterday() -> None:
    yesterday = [0, 30_000, 30_000]
    everything, left, _ = saved_over_time([*yesterday, 20 * HOUR * 1000, *[2500] * 5000], 200 * 4096)
    assert everything[2] in left
    assert len(left) <= 200


def test_who_comes_back_after_two_years_finds_the_version_of_then_after_saving() -> None:
    everything, left, _ = saved_over_time([0, 2 * 365 * DAY * 1000, 2500, 2500], 10**12)
    assert everything[0] in left


def test_saves_every_twenty_seconds_for_days_leave_days_then_hours_then_minutes_then_all() -> None:
    everything, left, now = saved_over_time([20_000] * 13_000, 10**12)
    ages = [(now - retention.milliseconds(version.stamp)) / 1000 for version in left]
    assert sum(age > DAY + HOUR for age in ages) == 2  # two days have ended more than a day ago
    assert 22 <= sum(HOUR + MINUTE < age <= DAY + HOUR for age in ages) <= 26
    assert 49 <= sum(10 * MINUTE < age <= HOUR + MINUTE for age in ages) <= 53
    assert left[-32:] == everything[-32:]  # what was current ten minutes ago is among them


def test_a_clock_that_was_wrong_once_loses_nothing() -> None:
    future = VersionFile(
        retention.stamp(retention.milliseconds("20900101T000000.000Z")), "labels", "0" * 16, 1, "future"
    )
    assert retention.to_remove([future], round(NOW * 1000), 10**9) == []


@given(st.integers(0, 253402300799999))
def test_a_stamp_reads_back_and_sorts(time: int) -> None:
    assert retention.milliseconds(retention.stamp(time)) == time
    assert retention.stamp(max(time - 1, 0)) <= retention.stamp(time)
