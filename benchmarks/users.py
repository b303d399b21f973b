"""Many users of one machine with the same dataset: their total memory, and a comparison by all of them at once."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

import memory
import servers
from browser import NotServed, comparison
from data import groups_of
from table import Side
from visits import Plan, Visit

COMPARED = "users_last users_answered users_memory_after"
KEYS = f"users_memory {COMPARED}"
ROOM = 0.7  # share of the available memory that may be used


def ours(side: Side, plan: Plan) -> None:
    """Measure a gateway for each user, with separate homes, and with one prepared cache for all if possible."""
    if not _room(side, plan):
        return
    with side.attempt(KEYS), contextlib.ExitStack() as stack:
        shared = prepared(side, plan.dataset, plan.folder / "shared")
        visits, gateways = [], []
        for number in range(plan.users):
            home = plan.folder / f"user-{number}"
            gateway = stack.enter_context(servers.ours(plan.dataset, home, shared=shared))
            gateway.library()
            browser = stack.enter_context(gateway.browser())
            visits.append(Visit(browser, gateway.viewer, browser.open(gateway.viewer), gateway.pids))
            gateways.append(gateway)
        for gateway in gateways:
            gateway.settle()
        _together(side, visits, plan)


def prepared(side: Side, dataset: Path, shared: Path) -> Path | None:
    """Prepare the dataset in the shared cache and return it; None if this version has none."""
    if not servers.has("shared_cache"):
        side.note("users_memory users_last", "there is no shared cache yet: each user has a cache of his own")
        return None
    shared.mkdir(mode=0o755, exist_ok=True)
    begin = time.perf_counter()
    servers.run("prepare", dataset, "--shared-cache", shared)
    side.add("prepare", [time.perf_counter() - begin])
    return shared


def plain(side: Side, plan: Plan) -> None:
    """Measure a `cellxgene launch` for each user."""
    if not _room(side, plan):
        return
    with side.attempt(KEYS), contextlib.ExitStack() as stack:
        visits = []
        for number in range(plan.users):
            home = plan.folder / f"plain-{number}"
            home.mkdir()
            server = stack.enter_context(servers.plain(plan.dataset, home))
            browser = stack.enter_context(server.browser())
            visits.append(Visit(browser, server.viewer, browser.open(server.viewer, server.begun), server.pids))
        _together(side, visits, plan)


def _room(side: Side, plan: Plan) -> bool:
    """Whether all users fit into this machine, judged by the memory of one; adds a note if they do not."""
    if "all_processes" not in side.values:
        side.note(KEYS, "not measured: not even one was")
        return False
    one = side.values["all_processes"] * 1e6
    if fits(plan.users * one):
        return True
    side.values["users_memory"] = plan.users * one / 1e9
    side.note("users_memory", f"{plan.users} times what one holds: they do not fit into this machine")
    side.note(COMPARED, "not run: not even the open viewers fit into this machine")
    return False


def fits(size: float) -> bool:
    """Whether the machine has room for this many more bytes."""
    return size < ROOM * psutil.virtual_memory().available


def _together(side: Side, visits: Sequence[Visit], plan: Plan) -> None:
    side.add("users_memory", [_held(visits)], 1e-9)
    more = side.values.get("large_memory", 0) * 1e6
    if fits(plan.users * more):
        _compare_at_once(side, visits, comparison(*groups_of(plan.dataset, plan.large)))
        side.add("users_memory_after", [_held(visits)], 1e-9)
    else:
        why = f"not run: {plan.users} comparisons of {more / 1e9:.1f} GB each do not fit into this machine"
        side.note(COMPARED, why)


def _held(visits: Sequence[Visit]) -> int:
    """Return the total memory of all visits."""
    return memory.of(pid for visit in visits for pid in visit.pids()).total


def _compare_at_once(side: Side, visits: Sequence[Visit], body: str) -> None:
    """Start all comparisons at the same moment; measure when the last one is answered, and note any that are lost."""
    ends: list[float] = []
    lost: list[str] = []
    barrier = threading.Barrier(len(visits) + 1)

    def one(visit: Visit) -> None:
        barrier.wait()
        try:
            visit.browser.compare(visit.viewer, body)
            ends.append(time.perf_counter())
        except (NotServed, OSError, http.client.HTTPException) as reason:
            lost.append(f"{type(reason).__name__}: {reason}")

    with _running(one, visits):
        barrier.wait()
        begin = time.perf_counter()
    side.values["users_answered"] = len(ends)
    if ends:
        side.add("users_last", [max(ends) - begin])
    if lost:
        side.note("users_last users_answered", f"lost: {lost[0][:200]}")


@contextlib.contextmanager
def _running(work: Callable[[Visit], None], visits: Sequence[Visit]) -> Iterator[None]:
    threads = [threading.Thread(target=work, args=(visit,)) for visit in visits]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
