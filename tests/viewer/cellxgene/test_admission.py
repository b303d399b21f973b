"""While the matrix is in preparation, what needs it waits, and nothing else does; who has gone waits no longer."""

import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import pytest

from cxg_proxy.viewer.cellxgene.admission import WAITING
from places import SUPPORT
from viewer_fixtures import Reply, Server, compare, until

pytest_plugins = ["viewer_plugin"]

BINARY = "application/octet-stream"
GENE = "data/var?var:name_0=gene1"
THREADS = 2


@contextlib.contextmanager
def started(script: str, *words: object) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="cxgw-") as place:
        command = [sys.executable, SUPPORT / script, *words]
        running = Server(command, Path(place), env={"HOME": place, "LANG": "C.UTF-8"})
        try:
            running.wait_for("ready")
            yield running
        finally:
            running.close()


@pytest.fixture
def server(small: Path) -> Iterator[Server]:
    with started("viewer_waiting.py", small, "s", str(THREADS)) as running:
        yield running


def notes(server: Server) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return (server.place / "noted").read_text().split()
    return []


def noted(server: Server, what: str) -> int:
    return notes(server).count(what)


def gene(server: Server) -> Reply:
    return server.api(GENE, Accept=BINARY)


def test_what_needs_the_matrix_waits_for_it_and_nothing_else_does(server: Server) -> None:
    with ThreadPoolExecutor(3) as pool:
        waiting = [
            pool.submit(gene, server),
            pool.submit(server.api, f"summarize/var?method=mean&{GENE.partition('?')[2]}", Accept=BINARY),
            pool.submit(compare, server, [[0, 30]], [[30, 60]]),
        ]
        until(lambda: noted(server, "waits") == 3)
        for name, accept in (("config", "application/json"), ("schema", "application/json"), ("layout/obs", BINARY)):
            assert server.api(name, Accept=accept).status == 200
        assert not any(one.done() for one in waiting)
        (server.place / "there").touch()
        assert [one.result().status for one in waiting] == [200] * 3
    assert gene(server).status == 200


def test_as_many_as_may_wait_leave_all_threads_to_others_and_one_more_is_told_to_come_back(server: Server) -> None:
    with ThreadPoolExecutor(WAITING + THREADS) as pool:
        waiting = [pool.submit(gene, server) for _ in range(WAITING)]
        until(lambda: noted(server, "waits") == WAITING)
        refused = gene(server)
        assert (refused.status, refused.json["kind"]) == (503, "Busy")
        assert int(refused.headers["Retry-After"]) > 0
        assert compare(server, [[0, 30]], [[30, 60]]).status == 503
        others = [pool.submit(server.api, "config") for _ in range(THREADS)]
        assert [one.result().status for one in others] == [200] * THREADS
        (server.place / "there").touch()
        assert [one.result().status for one in waiting] == [200] * WAITING


def comparison() -> bytes:
    """A request for one, as a page sends it."""
    sets = {f"set{number}": {"filter": {"obs": {"index": [number]}}} for number in (1, 2)}
    body = json.dumps({"mode": "topN", "count": 5, **sets}).encode()
    head = f"POST /api/v0.2/diffexp/obs HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Length: {len(body)}"
    return f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body


def test_a_comparison_that_runs_ends_at_its_next_block_when_its_page_has_gone(small: Path) -> None:
    command = ("blocks", "serve", "--socket", "s", "--labels", "labels", "--", small)
    with started("viewer_comparing.py", *command) as server:
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as page:
                page.connect(str(server.socket))
                page.sendall(comparison())
                until(lambda: noted(server, "begins") >= 1)
            until(lambda: noted(server, "gone") >= 1)
        finally:
            (server.place / "go").touch()
        # Its turn is over, so the next one has it.
        before = noted(server, "begins")
        assert compare(server, [[0, 30]], [[30, 60]]).status == 200
        genes = server.api("schema").json["schema"]["dataframe"]["nVar"]
        assert before <= (os.cpu_count() or 1) < genes
        assert noted(server, "begins") <= before + genes
        assert "Traceback" not in server.log.read_text()


def a_gene() -> bytes:
    return f"GET /api/v0.2/{GENE} HTTP/1.1\r\nHost: x\r\nAccept: {BINARY}\r\n\r\n".encode()


@pytest.mark.parametrize("request_of", [a_gene, comparison])
def test_a_request_ends_quietly_when_its_page_has_gone(server: Server, request_of: Callable[[], bytes]) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as page:
        page.connect(str(server.socket))
        page.sendall(request_of())
        until(lambda: noted(server, "waits") == 1)
        assert noted(server, "gone") == 0
    until(lambda: noted(server, "gone") == 1)
    assert server.api("config").status == 200
    assert "Traceback" not in server.log.read_text()
    (server.place / "there").touch()
    assert gene(server).status == 200


def test_a_kept_connection_answers_one_request_after_another_and_two_sent_at_once(server: Server) -> None:
    (server.place / "there").touch()
    request = a_gene()
    last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as page:
        page.settimeout(60)
        page.connect(str(server.socket))
        page.sendall(request)
        received = page.recv(65536)
        page.sendall(request + request + last)
        while piece := page.recv(65536):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert received.count(b"HTTP/1.1 404") == 1


@pytest.mark.hazard(12)
@pytest.mark.parametrize(("options", "at_once"), [((), 1), (("--diffexp-workers", "2"), 2)])
def test_as_many_comparisons_as_are_chosen_run_while_others_queue(
    small: Path, options: tuple[str, ...], at_once: int
) -> None:
    command = ("serve", "--socket", "s", "--labels", "labels", *options, "--", small)
    with started("viewer_comparing.py", *command) as server, ThreadPoolExecutor(WAITING) as pool:
        asked = [pool.submit(compare, server, [[0, 30]], [[30, 60]]) for _ in range(WAITING)]
        try:
            until(lambda: noted(server, "queues") == WAITING and noted(server, "begins") >= at_once)
            assert compare(server, [[0, 30]], [[30, 60]]).status == 503
            assert server.api("config").status == 200
        finally:
            (server.place / "go").touch()
        assert [one.result().status for one in asked] == [200] * WAITING
        at_work = accumulate({"begins": 1, "ends": -1}.get(note, 0) for note in notes(server))
        assert max(at_work) == at_once
