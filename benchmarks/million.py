"""The row of a million cells and a billion values, which is run by hand: it needs 30 GB of disk and half an hour."""

from __future__ import annotations

import memory
import servers
import users
import visits
from data import genes_of
from sides import say
from table import Side
from visits import Plan, Visit

EXCHANGES = "million_open million_gene million_large million_private"
OPENED = 1.4  # memory of plain cellxgene, in multiples of the file's size


def our_side(plan: Plan) -> Side:
    """Measure cxg-proxy with the dataset not prepared, then prepared."""
    side, home = Side(), plan.folder / "million"
    say("cxg-proxy: not prepared")
    with side.attempt("million_first"):
        seen = []
        for _ in range(plan.starts):
            servers.forget_stores(home)
            with servers.ours(plan.dataset, home) as server, server.browser() as browser:
                server.library()
                seen.append(browser.open(server.viewer).shown)
        side.add("million_first", seen)
        servers.forget_stores(home)
    say("cxg-proxy: prepared")
    with side.attempt(EXCHANGES):
        shared = users.prepared(side, plan.dataset, plan.folder / "shared")
        with servers.ours(plan.dataset, home, shared=shared) as server:
            _prepared(side, plan, server)
    return side


def _prepared(side: Side, plan: Plan, server: servers.Ours) -> None:
    server.library()
    with server.browser() as browser:
        browser.open(server.viewer)
        server.settle()
    seen = []
    for _ in range(plan.starts):
        server.close()
        server.settle()
        with server.browser() as browser:
            seen.append(browser.open(server.viewer))
    side.add("million_open", [each.shown for each in seen])
    with server.browser() as browser:
        _exchanges(side, plan, Visit(browser, server.viewer, seen[-1], server.pids))
    side.add("million_private", [memory.of([server.worker_pid()]).private], 1e-6)


def _exchanges(side: Side, plan: Plan, visit: Visit) -> None:
    with side.attempt("million_gene"):
        visits.genes(side, "million_gene", visit, plan)
    with side.attempt("million_large"):
        if servers.has("shared_cache") or _dense_fits(side, plan):
            visits.compare(side, "million_large", visit, plan, plan.large)


def _dense_fits(side: Side, plan: Plan) -> bool:
    """Whether dense copies of both groups, which plain cellxgene makes, fit into the memory of this machine."""
    size = 2 * plan.large * len(genes_of(plan.dataset, 10**9)) * 4
    if users.fits(size):
        return True
    side.note("million_large", f"not run: it would make {size / 1e9:.0f} GB of the two groups, and be killed")
    return False


def plain_side(plan: Plan) -> Side:
    """Measure plain cellxgene: it opens the file if that fits into memory, and compares if the groups fit too."""
    side, home = Side(), plan.folder / "plain"
    home.mkdir(exist_ok=True)
    if not users.fits(OPENED * plan.dataset.stat().st_size):
        side.note(f"{EXCHANGES} million_first", "not run: the open file alone does not fit into this machine")
        return side
    say("plain cellxgene")
    with (
        side.attempt(f"{EXCHANGES} million_first"),
        servers.plain(plan.dataset, home) as server,
        server.browser() as browser,
    ):
        opened = browser.open(server.viewer, server.begun)
        side.add("million_open", [opened.shown])
        side.add("million_first", [opened.shown])
        side.add("million_private", [memory.of(server.pids()).private], 1e-6)
        if _dense_fits(side, plan):
            visits.compare(side, "million_large", Visit(browser, server.viewer, opened, server.pids), plan, plan.large)
        visits.genes(side, "million_gene", Visit(browser, server.viewer, opened, server.pids), plan)
    return side
