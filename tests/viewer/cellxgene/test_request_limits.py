"""What a worker takes in: bounded bodies, checked arguments, and one heavy computation at a time."""

import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.errors import Busy
from cxg_proxy.viewer.cellxgene.admission import WAITING, Admission, Cancelled
from viewer_fixtures import Reply, Server, compare, until, worker

pytest_plugins = ["viewer_plugin"]

BINARY = {"Content_Type": "application/octet-stream"}


@pytest.mark.hazard(13)
def test_a_body_beyond_the_limit_is_refused_before_it_is_read(shown: Server) -> None:
    reply = shown.api("genesets", "PUT", b"{}", Content_Length=str(65 * 2**20), Content_Type="application/json")
    assert reply.status == 413
    assert "limit is 67,108,864 bytes" in reply.json["message"]


@pytest.mark.hazard(13)
def test_a_small_body_that_inflates_beyond_the_limit_is_refused(shown: Server) -> None:
    bomb = zlib.compress(bytes(400 * 2**20))
    before = shown.most_memory()
    reply = shown.api("annotations/obs", "PUT", bomb, **BINARY)
    assert reply.status == 413
    assert reply.json["kind"] == "TooLarge"
    assert shown.most_memory() - before < 250 * 2**20
    assert shown.api("config").status == 200


@pytest.mark.hazard(13)
def test_plain_cellxgene_inflates_whatever_it_is_sent(plain: Server) -> None:
    before = plain.most_memory()
    plain.api("annotations/obs", "PUT", zlib.compress(bytes(200 * 2**20)), **BINARY)
    assert plain.most_memory() - before > 190 * 2**20


@pytest.mark.parametrize(
    "body", [b"not zlib", zlib.compress(b"x" * 9999)[:-9], zlib.compress(b"no table"), zlib.compress(b"\xff" * 64)]
)
def test_labels_that_are_no_table_are_refused_with_a_sentence(shown: Server, body: bytes) -> None:
    reply = shown.api("annotations/obs", "PUT", body, **BINARY)
    assert reply.status == 400
    assert reply.json["message"].endswith(("again.", "page."))
    assert not (shown.place / "labels").exists()


@pytest.mark.parametrize(
    ("one", "other", "count", "words"),
    [
        ([0], [1], 0, "count is 0"),
        ([0], [1], 1001, "from 1 to 1000"),
        ([0], [1], "5", 'count is "5"'),
        ([0], [1], True, "count is true"),
        ([0], [1], None, "count is null"),
        ([0], [-1], 5, "-1 in set2"),
        ([40_000], [1], 5, "40000 in set1 is not a cell number from 0 to 39999"),
        ([0.5], [1], 5, "0.5 in set1"),
        ([[0, 1, 2]], [1], 5, "[0, 1, 2] in set1"),
        ([["a", "b"]], [1], 5, "in set1"),
        ({}, [1], 5, "must be a list"),
        ([], [1], 5, "first set holds no cells"),
        ([[0, 4]], [[7, 7]], 5, "second set holds no cells"),
    ],
)
@pytest.mark.hazard(12)
def test_a_bad_argument_of_a_comparison_is_named(shown: Server, one: Any, other: Any, count: Any, words: str) -> None:
    reply = compare(shown, one, other, count)
    assert reply.status == 400
    assert words in reply.json["message"]


@pytest.mark.parametrize("body", ["[]", "7", "{", "", '{"mode": "topN", "count": 5, "set1": 3}', "[" * 100_000])
@pytest.mark.parametrize(("target", "method"), [("diffexp/obs", "POST"), ("genesets", "PUT"), ("data/var", "PUT")])
def test_a_body_of_the_wrong_shape_is_refused(shown: Server, target: str, method: str, body: str) -> None:
    headers = {"Content_Type": "application/json", "Accept": "application/octet-stream"}
    reply = shown.api(target, method, body.encode(), **headers)
    assert reply.status == 400
    assert reply.json["message"].endswith(".")


@pytest.mark.parametrize("sets", [[1], [{"geneset_name": 3, "genes": []}], [{"geneset_name": "a", "genes": [{}]}]])
def test_gene_sets_of_the_wrong_shape_are_refused(shown: Server, sets: Any) -> None:
    reply = shown.api("genesets", "PUT", {"genesets": sets, "tid": 1})
    assert reply.status == 400
    assert "geneset_name" in reply.json["message"]


@pytest.mark.parametrize("target", ["data/var?var:shape=1", "data/var?nonsense=1", "data/var?var:name_0=1,2,3"])
def test_a_bad_filter_is_refused_with_a_sentence(shown: Server, target: str) -> None:
    reply = shown.api(target, Accept="application/octet-stream")
    assert reply.status == 400
    assert reply.json["message"]


def test_two_sets_of_cells_are_compared(shown: Server) -> None:
    reply = compare(shown, [[0, 100]], [200, 201, 202, [300, 400]])
    assert reply.status == 200
    assert [len(reply.json[side]) for side in ("positive", "negative")] == [5, 5]


@pytest.mark.hazard(12)
def test_plain_cellxgene_compares_as_much_and_as_many_at_once_as_anybody_asks_for(plain: Server) -> None:
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: compare(plain, [[0, 30]], [[30, 60]], count=1200), range(12)))
    assert [len(reply.json["positive"]) for reply in replies] == [1200] * 12


@pytest.mark.hazard(12)
@pytest.mark.parametrize(("chosen", "limit"), [(None, 50), (40, 40), (60, 50)])
def test_a_comparison_of_more_cells_than_is_allowed_is_refused(small: Path, chosen: int | None, limit: int) -> None:
    options = {} if chosen is None else {"diffexp_cellcount_max": chosen}
    with worker(small, options=options, extra=["--diffexp-max-cells", "50"]) as server:
        assert server.api("config").json["config"]["limits"]["diffexp_cellcount_max"] == limit
        half = limit // 2
        assert compare(server, [[0, half]], [[half, limit]]).status == 200
        reply = compare(server, [[0, half]], [[half, limit + 1]])
        assert (reply.status, reply.json["message"]) == (400, "Diffexp request exceeds max cell count limit")


def test_asking_for_more_genes_than_there_are_gives_those_there_are(shown: Server) -> None:
    for count in (120, 121):
        reply = compare(shown, [[0, 100]], [[300, 400]], count=count).json
        for side in ("positive", "negative"):
            assert sorted(row[0] for row in reply[side]) == list(range(120))


@pytest.mark.hazard(12)
def test_a_flood_of_comparisons_leaves_a_thread_for_small_requests(shown: Server) -> None:
    refused = threading.Event()
    replies: list[Reply] = []

    def flood() -> None:
        while not refused.is_set():
            reply = compare(shown, [[0, 20_000]], [[20_000, 40_000]])
            replies.append(reply)
            if reply.status == 503:
                refused.set()

    with ThreadPoolExecutor(WAITING + 3) as pool:
        for _ in range(WAITING + 3):
            pool.submit(flood)
        try:
            until(lambda: refused.is_set() or shown.api("config").status != 200)
        finally:
            refused.set()
    busy = next(reply for reply in replies if reply.status == 503)
    assert int(busy.headers["Retry-After"]) > 0
    assert json.loads(busy.body)["kind"] == "Busy"
    assert {reply.status for reply in replies} == {200, 503}


@pytest.mark.hazard(12)
@pytest.mark.parametrize("at_once", [1, 2])
def test_some_work_some_wait_and_more_are_refused(at_once: int) -> None:
    turns = Admission(at_once + 1, at_once)
    finish = threading.Event()
    order: list[int] = []

    def work(number: int) -> None:
        with turns.queued("It"), turns.running(lambda: False):
            order.append(number)
            assert finish.wait(30)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(at_once + 1)]
    for thread in threads:
        thread.start()
    until(lambda: not turns._places._value and len(order) == at_once)
    with pytest.raises(Busy), turns.queued("It"):
        pass
    finish.set()
    for thread in threads:
        thread.join()
    assert sorted(order) == list(range(at_once + 1))
    with turns.queued("It"), turns.running(lambda: False):
        pass


def test_who_has_gone_waits_no_longer_and_leaves_the_place_to_others() -> None:
    turns = Admission(2)
    gone = threading.Event()

    def wait() -> None:
        with turns.queued("It"), turns.running(gone.is_set):
            raise AssertionError("it was not its turn")

    with ThreadPoolExecutor(1) as pool, turns.queued("It"), turns.running(lambda: False):
        waiting = pool.submit(wait)
        until(lambda: not turns._places._value)
        gone.set()
        with pytest.raises(Cancelled):
            waiting.result(30)
        with turns.queued("It"):
            pass
