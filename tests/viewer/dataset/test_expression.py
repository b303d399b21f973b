"""A worker's expression matrix: out of a store, prepared by another process, or in memory where no store can be."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import psutil
import pytest

from cxg_proxy.errors import BadOptions, ChangedMeanwhile, DamagedFile, NotEnoughMemory, Problem, StillPreparing
from cxg_proxy.viewer.dataset.expression import PATIENCE_SECONDS, Expression, Preparation, in_memory
from cxg_proxy.viewer.store import build
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from processes import environment, gone
from stores_fixtures import MEMORY, PLENTY, Make, ignore, maker, names, never, total, write
from viewer_fixtures import worker
from waiting import until_now

pytest_plugins = ["stores_plugin"]
Prepare = Callable[..., Preparation]


@pytest.fixture(autouse=True)
def code_of_this_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """For builders, which are started as a worker starts them."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


@pytest.fixture(name="heard")
def what_was_told() -> list[tuple[float | None, str]]:
    return []


@pytest.fixture(name="prepare")
def a_preparation(stores: Stores, heard: list[tuple[float | None, str]]) -> Iterator[Prepare]:
    made: list[Preparation] = []

    def begin(source: Path, layer: str | None = None, **how: float) -> Preparation:
        made.append(
            Expression.in_preparation(
                stores,
                Origin.of(str(source), layer),
                tell=lambda done, note: heard.append((done, note)),
                **how,
            )
        )
        return made[-1]

    yield begin
    for each in made:
        each.close()


def summed(expression: Expression) -> float:
    found = expression.matrix(never)
    return float(found.columns(np.arange(found.shape[1])).sum(dtype=np.float64))


def test_what_is_in_a_store_is_there_at_once(source: Path, make: Make) -> None:
    there = make(source)
    expression = Expression.of_store(there)
    assert expression.done is None
    assert expression.matrix(never) is there.matrix
    assert expression.distribution(never) == there.distribution


def test_another_process_prepares_it_and_then_it_is_that_of_the_store(
    cache: Path, source: Path, prepare: Prepare, make: Make, heard: list[tuple[float | None, str]]
) -> None:
    expression = prepare(source)
    assert expression.done is not None
    assert psutil.Process(expression._builder.pid).ppid() == os.getpid()
    found = summed(expression)
    until_now(lambda: heard[-1:] == [(None, "")])
    assert expression.done is None
    there = make(source)
    assert found == total(there)
    assert expression.distribution(never) == there.distribution
    assert names(cache) == [there.folder.name]
    assert gone(expression._builder.pid)


def test_a_preparation_follows_the_builder_of_somebody_else_and_takes_over(
    cache: Path, source: Path, prepare: Prepare
) -> None:
    with maker(cache, source, 0.0) as builder:
        builder.until("done")
        expression = prepare(source)
        begun = time.monotonic()
        with pytest.raises(build.Cancelled):
            expression.matrix(lambda: time.monotonic() > begun + 1)
        builder.process.kill()
        assert summed(expression) > 0


def test_who_waits_can_give_up_and_is_told_after_an_hour(cache: Path, source: Path, prepare: Prepare) -> None:
    with maker(cache, source, 0.0) as builder:
        builder.until("done")
        expression = prepare(source, patience=0.3)
        with pytest.raises(build.Cancelled):
            expression.matrix(lambda: True)
        with pytest.raises(StillPreparing, match=r"cells\.h5ad: its gene expression is still being prepared"):
            expression.distribution(never)


def test_all_who_wait_get_the_same_matrix(source: Path, prepare: Prepare) -> None:
    expression = prepare(source)
    found: list[object] = []
    waiting = [threading.Thread(target=lambda: found.append(expression.matrix(never))) for _ in range(5)]
    for each in waiting:
        each.start()
    for each in waiting:
        each.join()
    assert len(found) == 5
    assert len(set(map(id, found))) == 1


def test_what_is_wrong_with_the_file_is_told_to_all_who_wait(
    source: Path, prepare: Prepare, heard: list[tuple[float | None, str]]
) -> None:
    with pytest.raises(BadOptions, match="layer is 'no such layer'"):
        prepare(source, "no such layer").matrix(never)
    until_now(lambda: heard and heard[-1][0] is None)
    size = source.stat().st_size
    os.truncate(source, size // 2)
    expression = prepare(source)
    for _ in range(2):
        with pytest.raises(DamagedFile):
            expression.matrix(never)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_builder_that_is_ended_from_outside_is_told_of(
    sent: signal.Signals, cache: Path, source: Path, prepare: Prepare
) -> None:
    with maker(cache, source, 0.0) as other:  # which keeps ours waiting
        other.until("done")
        expression = prepare(source)
        os.kill(expression._builder.pid, sent)
        with pytest.raises(
            NotEnoughMemory if sent == signal.SIGKILL else Problem, match="prepares its gene expression"
        ):
            expression.matrix(never)


def test_what_killed_a_builder_may_be_over_when_somebody_asks_later(
    cache: Path, source: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxg_proxy.viewer.dataset.expression._AGAIN_SECONDS", 0.2)
    with maker(cache, source, 0.0) as other:  # who has it to wait
        other.until("done")
        expression = prepare(source)
        os.kill(expression._builder.pid, signal.SIGKILL)
        with pytest.raises(NotEnoughMemory):
            expression.matrix(never)
        other.process.kill()
    until_now(lambda: time.monotonic() > expression._failed + 0.2)
    assert summed(expression) == float(anndata.read_h5ad(source).X.sum(dtype=np.float64))
    assert expression.note == ""


@pytest.mark.parametrize("limit", [0, PLENTY], ids=["in memory", "from a store"])
def test_the_matrix_of_a_file_that_was_replaced_is_never_given_for_the_one_before(
    limit: int, source: Path, stores: Stores
) -> None:
    stores.limit = limit
    before = Origin.of(str(source))
    write(source, seed=2)
    expression = Expression.in_preparation(stores, before, tell=lambda *_: None)
    with pytest.raises(ChangedMeanwhile):
        expression.matrix(never)
    expression.close()


def test_the_builder_ends_with_its_worker_and_leaves_nothing(cache: Path, source: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cxg_proxy.viewer.dataset.expression import Expression\n"
        "from cxg_proxy.viewer.store.cache import Stores\n"
        "stores = Stores(Path(sys.argv[1]), None, limit=2**62, memory=2**28)\n"
        "from cxg_proxy.viewer.store.origin import Origin\n"
        "made = Expression.in_preparation(stores, Origin.of(sys.argv[2]), tell=lambda *_: None)\n"
        "print(made._builder.pid, flush=True); time.sleep(60)\n"
    )
    with maker(cache, source, 0.0) as other:
        other.until("done")
        command = [sys.executable, "-c", program, cache, source]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as holder:
            assert holder.stdout
            builder = int(holder.stdout.readline())
            assert not gone(builder)
            holder.kill()
        until_now(lambda: gone(builder))
        other.process.kill()
        other.process.wait()


# --- where no store can be kept ------------------------------------------------------------------------------------


def test_without_room_for_a_store_it_is_read_into_memory_when_it_is_wanted_and_that_is_said(
    cache: Path, source: Path, stores: Stores, prepare: Prepare, heard: list[tuple[float | None, str]]
) -> None:
    stores.limit = 1
    expression = prepare(source)
    until_now(lambda: heard and heard[-1][0] is None)
    assert "--cache-limit is 0" in expression.note
    assert "It is read into memory instead" in heard[-1][1]
    assert expression._whole is None
    found = summed(expression)
    assert not list(cache.rglob("store.json"))
    stores.limit = PLENTY
    assert found == total(stores.make(Origin.of(str(source)), ignore, never))
    assert expression.distribution(never) == "normal"


@pytest.mark.parametrize("limit", [0, None])
def test_where_no_store_is_to_be_kept_it_is_read_when_it_is_wanted_and_nobody_is_bothered(
    limit: int | None, stores: Stores, source: Path, heard: list[tuple[float | None, str]]
) -> None:
    stores.limit = limit or 0
    told = Expression.in_preparation(
        None if limit is None else stores,
        Origin.of(str(source)),
        tell=lambda done, note: heard.append((done, note)),
    )
    assert (told.done, told.note, told._whole) == (None, "", None)
    assert summed(told) == float(anndata.read_h5ad(source).X.sum(dtype=np.float64))
    until_now(lambda: heard and heard[-1] == (None, ""))
    assert not any(note for _, note in heard)
    told.close()


def test_a_preparation_that_nobody_wants_any_more_ends_without_being_read(
    source: Path, stores: Stores, prepare: Prepare
) -> None:
    stores.limit = 1
    expression = prepare(source)
    until_now(lambda: expression.note)
    expression.close()
    assert expression._whole is None


def test_in_memory_it_keeps_to_the_limit_of_the_worker(tmp_path: Path) -> None:
    source = write(tmp_path / "large.h5ad", count=4000, genes=4000)
    program = (
        "import resource, sys\n"
        "from cxg_proxy.errors import NotEnoughMemory\n"
        "from cxg_proxy.viewer.serve import _memory_held\n"
        "from cxg_proxy.viewer.dataset.expression import in_memory\n"
        "from cxg_proxy.viewer.store.origin import Origin\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (_memory_held() + 12_000_000,) * 2)\n"
        "try:\n    in_memory(Origin.of(sys.argv[1]), lambda _: None)\n"
        "except NotEnoughMemory:\n    print('no memory')\n"
    )
    command = [sys.executable, "-c", program, source]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "no memory\n"


def test_in_memory_a_layer_can_be_chosen_and_a_wrong_one_is_told(source: Path) -> None:
    with pytest.raises(BadOptions, match="the file has none"):
        in_memory(Origin.of(str(source), "other"), ignore)
    assert in_memory(Origin.of(str(source)), ignore).matrix.dtype == np.float32


def test_nobody_waits_longer_than_the_proxy_before_it_does() -> None:
    from jupyter_server_proxy.handlers import ProxyHandler  # noqa: PLC0415 - it takes long, and only this one needs it

    assert ProxyHandler.proxy_request_options(None)["request_timeout"] > PATIENCE_SECONDS


# --- the worker ----------------------------------------------------------------------------------------------------


def test_a_worker_takes_the_options_for_stores(source: Path, cache: Path, tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    extra = ["--cache", str(cache), "--shared-cache", shared, "--cache-limit", "0", "--build-memory", str(MEMORY)]
    with worker(source, extra=extra) as server:
        assert server.api("schema").status == 200
