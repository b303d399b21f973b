"""Visits to a viewer, measured alike on both sides: its opening, and exchanges with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from browser import Browser, Opened, comparison
from data import genes_of, groups_of
from memory import watched
from table import Side

SLOW_SECONDS = 10.0  # a call that takes longer is measured only once
SET = 200  # genes


@dataclass(frozen=True)
class Plan:
    """The plan of a run: which datasets are measured, where, and how often."""

    dataset: Path
    real: Path
    tiny: Path  # for the warm-up before anything is measured
    folder: Path
    large: int  # cells in each group of the large comparison; `little` is for the small one
    little: int
    starts: int = 5  # how often each opening is measured
    repeats: int = 5  # how often each exchange is measured
    users: int = 10

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers in the texts of the table."""
        return {"large": self.large, "little": self.little, "users": self.users}


@dataclass(frozen=True)
class Visit:
    """An open viewer in a browser, and the processes behind it."""

    browser: Browser
    viewer: str
    opened: Opened
    pids: Callable[[], Iterable[int]]


def timed(work: Callable[[], object], count: int) -> list[float]:
    """Return the seconds of each call; a slow call is not repeated."""
    seen: list[float] = []
    while len(seen) < count and (not seen or seen[-1] < SLOW_SECONDS):
        begin = time.perf_counter()
        work()
        seen.append(time.perf_counter() - begin)
    return seen


def opening(visit: Visit, begin: float, gene: str) -> tuple[float, float]:
    """Return the seconds from the click to the embedding, and to the first gene."""
    visit.browser.gene(visit.viewer, visit.opened.index, gene)
    return visit.opened.shown, time.perf_counter() - begin


def genes(side: Side, key: str, visit: Visit, plan: Plan) -> None:
    """Measure one gene after another, each for the first time."""
    names = iter(genes_of(plan.dataset, 4 * plan.repeats + 1, seed=len(key)))
    visit.browser.gene(visit.viewer, visit.opened.index, next(names))
    seen = timed(lambda: visit.browser.gene(visit.viewer, visit.opened.index, next(names)), 4 * plan.repeats)
    side.add(key, seen, 1000)


def gene_set(side: Side, visit: Visit, plan: Plan) -> None:
    """Measure the mean of a gene set, a different one each time."""
    sets = iter(genes_of(plan.dataset, SET, seed) for seed in range(plan.repeats))
    index = visit.opened.index
    side.add("set", timed(lambda: visit.browser.gene_set(visit.viewer, index, next(sets)), plan.repeats), 1000)


def compare(side: Side, key: str, visit: Visit, plan: Plan, cells: int) -> None:
    """Measure the differential expression of two groups of `cells` cells.

    The first run measures memory, and if it was not slow, further runs measure time. The increase in memory is PSS,
    which includes the mapped pages of files, such as a store's; these are also given separately.
    """
    body = comparison(*groups_of(plan.dataset, cells))
    with watched(visit.pids) as peak:
        seen = timed(lambda: visit.browser.compare(visit.viewer, body), 1)
    side.values[f"{key}_memory"], side.values[f"{key}_pages"] = peak.more / 1e6, peak.more_files / 1e6
    side.values[f"{key}_total"] = peak.total / 1e6
    if seen[0] < SLOW_SECONDS:
        seen = timed(lambda: visit.browser.compare(visit.viewer, body), plan.repeats)
    side.add(key, seen)


def second_visit(side: Side, browser: Browser, viewer: str) -> None:
    """Measure the bytes that are transferred when a browser comes back."""
    browser.open(viewer)
    browser.bytes = 0
    browser.open(viewer)
    side.add("second_visit", [browser.bytes], 1e-3)


def exchanges(side: Side, visit: Visit, plan: Plan) -> None:
    """Measure all exchanges with one open viewer."""
    with side.attempt("gene"):
        genes(side, "gene", visit, plan)
    with side.attempt("set"):
        gene_set(side, visit, plan)
    with side.attempt("second_visit"):
        second_visit(side, visit.browser, visit.viewer)
    with side.attempt("little little_memory"):
        compare(side, "little", visit, plan, plan.little)
    with side.attempt("large large_memory large_pages"):
        compare(side, "large", visit, plan, plan.large)
