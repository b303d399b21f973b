"""The two sides of the table, each measured from its first start to its last exchange."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import gateway
import memory
import servers
import users
import visits
from browser import comparison
from data import genes_of, groups_of
from gateways import running_gateway
from table import Side
from visits import Plan, Visit


def say(text: str) -> None:
    """Print what is being measured, since it takes minutes."""
    print(f"==> {text}", flush=True)


# --- plain cellxgene ------------------------------------------------------------------------------------------------


def plain_side(plan: Plan) -> Side:
    """Measure `cellxgene launch`; its start counts as the click."""
    side, home = Side(), plan.folder / "plain"
    home.mkdir()
    say("plain cellxgene: once before anything is measured")
    with side.attempt("first"):
        _plain_warm(plan, home)
    gene = genes_of(plan.dataset, 1)[0]
    say("plain cellxgene: openings, exchanges")
    with side.attempt("first first_ready later gene set little large second_visit"):
        seen = []
        for number in range(plan.starts):
            with servers.plain(plan.dataset, home) as server, server.browser() as browser:
                visit = Visit(browser, server.viewer, browser.open(server.viewer, server.begun), server.pids)
                seen.append(visits.opening(visit, server.begun, gene))
                if number == plan.starts - 1:
                    side.add("all_processes", [memory.of(server.pids()).total], 1e-6)
                    visits.exchanges(side, visit, plan)
                    side.add("private", [memory.of(server.pids()).private], 1e-6)
        side.add("first", [shown for shown, _ in seen])
        side.add("first_ready", [ready for _, ready in seen])
        side.add("later", side.single["first"])
    say("plain cellxgene: the 700-cell set")
    with side.attempt("real"):
        side.add("real", [_plain_opening(plan.real, home) for _ in range(plan.starts)])
    say(f"plain cellxgene: {plan.users} users")
    users.plain(side, plan)
    side.note("later later_cold", "it keeps nothing: every time is like the first")
    return side


def _plain_warm(plan: Plan, home: Path) -> None:
    with servers.plain(plan.tiny, home) as server, server.browser() as browser:
        opened = browser.open(server.viewer)
        browser.gene(server.viewer, opened.index, genes_of(plan.tiny, 1)[0])
        browser.compare(server.viewer, comparison(*groups_of(plan.tiny, 100)))


def _plain_opening(dataset: Path, home: Path) -> float:
    with servers.plain(dataset, home) as server, server.browser() as browser:
        return browser.open(server.viewer, server.begun).shown


# --- cxg-proxy --------------------------------------------------------------------------------------------------------


def our_side(plan: Plan) -> Side:
    """Measure a gateway, with its viewers and all other processes that it starts."""
    side, home = Side(), plan.folder / "ours"
    home.mkdir()
    say("cxg-proxy: once before anything is measured")
    with side.attempt("first"):
        _our_warm(plan)
    say("cxg-proxy: first openings")
    with side.attempt("first first_ready"):
        _first(side, plan, home)
    say("cxg-proxy: later openings, exchanges")
    with side.attempt("later gene gene_direct set little large second_visit private"):
        _later(side, plan, home)
    with side.attempt("later_cold"):
        side.add("later_cold", [_cold(plan.dataset, home) for _ in range(plan.starts)])
    say("cxg-proxy: the 700-cell set")
    with side.attempt("real"):
        _real(side, plan)
    say(f"cxg-proxy: {plan.users} users")
    users.ours(side, plan)
    say("cxg-proxy: the gateway alone")
    with side.attempt("small throughput"):
        _gateway(side)
    if not servers.has("preload_idle_seconds"):
        side.note("first later real", "there is no preloaded viewer yet: each opening starts a Python of its own")
    return side


def _our_warm(plan: Plan) -> None:
    """Compile byte code and kernels, as an installation has done long before a user comes."""
    with servers.ours(plan.tiny, plan.folder / "warm") as server, server.browser() as browser:
        server.library()
        opened, genes = browser.open(server.viewer), genes_of(plan.tiny, 20)
        browser.gene(server.viewer, opened.index, genes[0])
        browser.gene_set(server.viewer, opened.index, genes)
        browser.compare(server.viewer, comparison(*groups_of(plan.tiny, 100)))


def _first(side: Side, plan: Plan, home: Path) -> None:
    """Measure first openings: a user clicks in the list of datasets while nothing is prepared."""
    gene, seen = genes_of(plan.dataset, 1)[0], []
    for _ in range(plan.starts):
        servers.forget_stores(home)
        with servers.ours(plan.dataset, home) as server, server.browser() as browser:
            server.library()
            begin = time.perf_counter()
            visit = Visit(browser, server.viewer, browser.open(server.viewer), server.pids)
            seen.append((*visits.opening(visit, begin, gene), visit.opened))
            server.settle()
    side.add("first", [shown for shown, _, _ in seen])
    side.add("first_ready", [ready for _, ready, _ in seen])
    _steps(side, "first", [opened for _, _, opened in seen])


def _steps(side: Side, key: str, opened: list[visits.Opened]) -> None:
    """Keep the times of the steps, which show where an opening spends its time."""
    for name in opened[0].steps:
        side.single[f"{key}: {name}"] = [each.steps[name] for each in opened]


def _later(side: Side, plan: Plan, home: Path) -> None:
    """Measure later openings of a closed viewer, each in a browser with an empty cache."""
    with servers.ours(plan.dataset, home) as server, contextlib.ExitStack() as stack:
        server.library()
        with server.browser() as browser:
            browser.open(server.viewer)
            server.settle()
        seen = []
        for _ in range(plan.starts):
            server.close()
            server.settle()
            browser = stack.enter_context(server.browser())
            seen.append(browser.open(server.viewer))
        side.add("later", [each.shown for each in seen])
        _steps(side, "later", seen)
        visits.exchanges(side, Visit(browser, server.viewer, seen[-1], server.pids), plan)
        side.add("private", [memory.of([server.worker_pid()]).private], 1e-6)
        side.add("all_processes", [memory.of(server.pids()).total], 1e-6)
        with server.worker() as direct:
            visits.genes(side, "gene_direct", Visit(direct, "/", seen[-1], server.pids), plan)


def _cold(dataset: Path, home: Path) -> float:
    with servers.ours(dataset, home) as server, server.browser() as browser:
        shown = browser.open(server.viewer).shown
        server.settle()
        return shown


def _real(side: Side, plan: Plan) -> None:
    home = plan.folder / "real"
    with servers.ours(plan.real, home) as server:
        server.library()
        seen = []
        for _ in range(1 + plan.starts):
            with server.browser() as browser:
                seen.append(browser.open(server.viewer).shown)
            server.settle()
            server.close()
            server.settle()
    side.add("real", seen[1:])


def _gateway(side: Side) -> None:
    """Measure what the gateway itself adds, with a worker that does nothing."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "data").mkdir()
        (Path(name) / "data" / "dataset-0000.h5ad").write_bytes(b"")
        with running_gateway(Path(name)) as running:
            through, direct = gateway.exchanges(running)
    side.values["small"] = max(0.0, through.small - direct.small)
    side.values["throughput"] = through.large
