"""The retention of old versions: fewer are kept the older they are, and their total size stays within a limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import groupby, pairwise
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_MS = 253402300799999  # the end of the year 9999
_PARTS = ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15), (16, 19))  # of a stamp, year to millisecond
_BLOCK = 4096  # even a file of one byte takes a block of the disk
_DAY = 8  # letters of a stamp that name its day
_HOUR = 11
_MINUTE = 13
# How long one version of each minute, hour or day is kept. For ten minutes all are kept.
_PERIODS = ((timedelta(hours=1), _MINUTE), (timedelta(days=1), _HOUR), (timedelta(days=365), _DAY))
_ALL = timedelta(minutes=10)


class VersionFile(NamedTuple):
    """The file of a version, as its name describes it: no file needs to be opened to thin a history."""

    stamp: str
    kind: str
    digest: str
    stored: int  # bytes
    name: str
    lost: bool = False  # a writer that had not seen it replaced part of it
    found: bool = False  # it was found on the disk, written by another program


def stamp(milliseconds: int) -> str:
    """Format milliseconds since 1970 as text that sorts, and whose prefixes name the day, the hour and the minute."""
    time = _EPOCH + timedelta(milliseconds=min(max(milliseconds, 0), _LAST_MS))
    return f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03}Z"


def milliseconds(text: str) -> int:
    """Parse the time that `stamp` wrote; raises ValueError for other text."""
    year, month, day, hour, minute, second, rest = (int(text[begin:end]) for begin, end in _PARTS)
    time = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    return (time - _EPOCH) // timedelta(seconds=1) * 1000 + rest


def to_remove(versions: Iterable[VersionFile], now: int, limit: int) -> list[VersionFile]:
    """Return the versions to remove, oldest first; the newest of each kind is never among them."""
    # Lost and found versions are thinned separately: what a user lost to another tab, or wrote by hand, must not be
    # removed because a tab has saved again in the same minute.
    ordered = sorted(sorted(versions), key=_group)
    groups = [list(group) for _, group in groupby(ordered, key=_group)]
    old = [version for group in groups for version in _too_old(group, now)]
    gone = set(old)
    left = [[version for version in group if version not in gone] for group in groups]
    return old + list(_too_much(left, limit))


def _group(version: VersionFile) -> tuple[str, bool, bool]:
    return (version.kind, version.lost, version.found)


def _too_old(versions: list[VersionFile], now: int) -> Iterator[VersionFile]:
    """Yield the versions that are too old to keep.

    A version's age begins when the next one replaces it, so a user who comes back after two years loses nothing.
    """
    now = max(now, milliseconds(versions[-1].stamp))  # a clock may have been wrong
    ages = [(stamp(now - age // timedelta(milliseconds=1)), letters) for age, letters in _PERIODS]
    dense = stamp(now - _ALL // timedelta(milliseconds=1))
    for version, following in pairwise(versions):
        if following.stamp >= dense:
            return  # all that follow are recent too
        letters = next((letters for since, letters in ages if following.stamp >= since), 0)
        if following.stamp[:letters] == version.stamp[:letters]:
            yield version


def _too_much(groups: list[list[VersionFile]], limit: int) -> Iterator[VersionFile]:
    """Yield versions to remove until the rest fits the limit.

    The oldest go first, but the last version of each day goes only after all others.
    """
    over = sum(_space(version) for group in groups for version in group) - limit
    if over <= 0:
        return
    ranked = [
        (following.stamp[:_DAY] != version.stamp[:_DAY], version.stamp, version)
        for group in groups
        for version, following in pairwise(group)
    ]
    for _, _, version in sorted(ranked):
        if over <= 0:
            return
        over -= _space(version)
        yield version


def _space(version: VersionFile) -> int:
    return -(-version.stored // _BLOCK) * _BLOCK
