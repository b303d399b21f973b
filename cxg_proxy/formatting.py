"""Formatting of numbers, sizes, times and names for people; every function is pure.

humanize says "a day ago", "2.0 MB" and "999.9 kB" where pages say "yesterday", "2 MB" and "1 MB", and its spaces let a
line break between a number and its unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone

# Lone surrogates (bytes of a file name that are not UTF-8) cannot be sent; control characters have no place in HTML.
_UNSHOWABLE = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
_THIN = "\u202f"  # narrow no-break space
_AGES = ((60, "min"), (3600, "h"), (86400, "day"), (30 * 86400, "month"), (365 * 86400, "year"))

PHASES = {
    "queued": "Waiting for a free place.",
    "downloading": "Downloading the dataset from its remote address.",
    "starting": "Starting cellxgene.",
    "loading": "Reading the dataset.",
    "ready": "Ready. Opening the viewer.",
    "closing": "Closing the viewer.",
    "closed": "The viewer was closed.",
    "failed": "The viewer did not start.",
}
"""One sentence for each phase of an instance."""

STATES = {
    "queued": "waiting",
    "downloading": "downloading",
    "starting": "opening",
    "loading": "opening",
    "ready": "open now",
    "closing": "closing",
    "closed": "closed",
    "failed": "stopped by a problem",
}
"""The phase of an instance in a word or two, for cards and tables."""

ORIGINS = {
    "found": "found on the disk",
    "restored": "restored",
    "adopted": "from another dataset",
    "uploaded": "uploaded",
}
"""Where a version of labels came from, if not from the viewer."""


def clean(text: str) -> str:
    """Replace every character that no page can hold by U+FFFD."""
    return _UNSHOWABLE.sub("\ufffd", text)


def printable(text: str) -> str:
    """Return the text as one printable line for a terminal, whatever it contains."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def number(value: float) -> str:
    """Format 68000 as "68 000"."""
    return f"{value:,.0f}".replace(",", _THIN)


def count(value: int, noun: str) -> str:
    """Format 1 as "1 dataset", 1200 as "1 200 datasets"."""
    return f"{number(value)} {noun}" if value == 1 else f"{number(value)} {noun}s"


def size(value: float) -> str:
    """Format bytes in SI units: 2100000000 as "2.1 GB"."""
    amount, units = max(0.0, float(value)), ["B", "kB", "MB", "GB", "TB", "PB"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    digits = 1 if amount < 9.95 and units[0] != "B" else 0
    return f"{amount:.{digits}f}".removesuffix(".0") + f"\u00a0{units[0]}"


def share(value: float) -> str:
    """Format 0.43 as "43 %"."""
    return f"{100 * value:.0f}{_THIN}%"


def duration(seconds: float) -> str:
    """Format seconds as "4 s", "1 min 20 s" or "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}\u00a0s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes}\u00a0min {rest}\u00a0s" if rest else f"{minutes}\u00a0min"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if minutes else f"{hours}\u00a0h"


def ago(then: float, now: float) -> str:
    """Format how long `then` was before `now`: "just now", "3 min ago", "yesterday", "2 years ago"."""
    age = now - then
    if age < -60:
        return "in the future"
    if age < 60:
        return "just now"
    length, unit = next(pair for pair in reversed(_AGES) if age >= pair[0])
    amount = int(age // length)
    if (unit, amount) == ("day", 1):
        return "yesterday"
    plural = "s" if amount > 1 and unit in ("day", "month", "year") else ""
    return f"{number(amount)}\u00a0{unit}{plural} ago"


def moment(then: float) -> datetime | None:
    """Return the time as a UTC datetime, or None if it is out of range (a file may claim any time)."""
    try:
        return datetime.fromtimestamp(then, timezone.utc).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):
        return None


def when(then: float, now: float) -> str:
    """Return HTML that says how long ago, with the exact time as `datetime` and tooltip. It holds no user text."""
    exact = moment(then)
    if exact is None:
        return "at an unknown time"
    title = f"{exact.day} {exact:%b} {exact.year}, {exact:%H:%M} UTC"
    return f'<time datetime="{exact.isoformat()}" title="{title}">{ago(then, now)}</time>'


def clock(then: float) -> str:
    """Return HTML with the time of day in UTC, and the exact time as `datetime` and tooltip."""
    exact = moment(then)
    if exact is None:
        return "at an unknown time"
    title = f"{exact.day} {exact:%b} {exact.year}, {exact:%H:%M:%S} UTC"
    return f'<time datetime="{exact.isoformat()}" title="{title}">{exact:%H:%M}</time>'


def day(then: float, now: float) -> str:
    """Format the day in UTC as a heading: "Today, 23 November 2026"."""
    exact, today = moment(then), moment(now)
    if exact is None or today is None:
        return "On an unknown day"
    said = f"{exact.day} {exact:%B} {exact.year}"
    age = (today.date() - exact.date()).days
    return {0: "Today, ", 1: "Yesterday, "}.get(age, f"{exact:%A}, ") + said


def pieces(step: str) -> Iterator[tuple[bool, str]]:
    """Split a step at its backquotes into pairs: whether the piece is a command, and its text."""
    for position, text in enumerate(step.split("`")):
        if text:
            yield position % 2 == 1, text


def parts(name: str) -> list[str]:
    """Split a name where a line may break: after each `_`, `-`, `.` and `/` inside it."""
    return re.findall(r".+?(?:[-_./]+(?=\w)|$)", name, re.DOTALL)


_CALLED = (number, count, size, share, duration, when, clock, day, pieces, parts)
FOR_PAGES = {each.__name__: each for each in _CALLED} | {"PHASES": PHASES, "STATES": STATES, "ORIGINS": ORIGINS}
"""What templates may call by name."""
