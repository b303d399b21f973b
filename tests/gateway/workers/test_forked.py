"""Forked workers: like ordinary ones in all but the time they take."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cxg_proxy.errors import Died
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.visits import Visits
from cxg_proxy.gateway.workers.command import WorkerEnvironment
from cxg_proxy.gateway.workers.instance import Limits
from cxg_proxy.gateway.workers.instances import Instances
from cxg_proxy.steps import Phase
from preload_fixtures import Forking, Make, a_forking, description, line  # noqa: F401 - a fixture
from processes import environment, gone
from waiting import until


async def test_a_worker_is_forked_and_ends_with_its_block(forking: Make, short: Path) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("quick", str(short / "s")) as child:
        assert forks.forked(child)
        phases = [json.loads(await line(child))["phase"] for _ in range(3)]
        assert phases == ["starting", "loading", "ready"]
    assert gone(child.pid)
    assert child.status in (0, -signal.SIGTERM)  # whatever it sees first, the end of its leash or the signal
    (parent,) = forks.parents
    await until(lambda: not parent.children())  # reaped


async def test_it_is_what_an_ordinary_worker_is(forking: Make) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("describe", "a", ordinary=True) as ordinary, forks.child("describe", "a") as forked:
        assert forks.forked(forked)
        assert not forks.forked(ordinary)
        said = await description(forked)
        assert said == await description(ordinary)
        assert said["environment"]["AGE"] == "12"
        assert "OPENBLAS_NUM_THREADS" not in said["environment"]
        assert said["descriptors"] == [0, 1, 2]


@pytest.mark.parametrize("end", ["SIGSEGV", "SIGKILL", "SIGABRT", "3", "0"])
async def test_how_one_ends_is_told_and_is_nothing_to_its_parent_and_siblings(forking: Make, end: str) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("describe") as sibling:
        async with forks.child("crash", end) as child:
            assert forks.forked(child)
            expected = -getattr(signal, end) if end.startswith("SIG") else int(end)
            assert await child.wait() == child.status == expected
        assert forks.forked(sibling)
        assert sibling.status is None
        async with forks.child("describe") as another:
            assert forks.forked(another)


async def test_a_deaf_one_is_killed_after_patience_with_its_own_children(forking: Make, short: Path) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("deaf", str(short / "s"), patience=0.2) as child:
        assert forks.forked(child)
        while json.loads(await line(child))["phase"] != "ready":
            pass
    assert child.status == -signal.SIGKILL


async def test_the_number_of_one_that_ended_belongs_to_nobody_else_until_its_block_is_left(forking: Make) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("crash", "3") as child:
        assert await child.wait() == 3
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    await until(lambda: not psutil.pid_exists(child.pid))


async def test_none_holds_a_descriptor_of_another_and_we_keep_none(forking: Make) -> None:
    def open_files(pid: int) -> set[str]:
        found = set()
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        return found

    forks = forking()
    await forks.preload.warm()
    before, (parent,) = len(open_files(os.getpid())), forks.parents
    parents = len(open_files(parent.pid))
    async with forks.child("describe") as one, forks.child("describe") as two, forks.child("describe") as three:
        files = [open_files(each.pid) for each in (one, two, three)]
        assert [len(each) for each in files] == [3, 3, 3]
        assert len(set.union(*files)) == 9
        assert not set.union(*files) & open_files(parent.pid)
    await until(lambda: len(open_files(parent.pid)) == parents)
    await until(lambda: len(open_files(os.getpid())) == before)


HOSTILE = ["", " ", "a b", "'\"\\{}$HOME", "-- -x", "\n\r\t", "ä\u2028\U0001f600", "\udcff\udcfe.h5ad", "\x01\x7f"]


async def test_any_argument_arrives_unharmed(forking: Make) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("describe", *HOSTILE) as child:
        assert forks.forked(child)
        assert (await description(child))["arguments"] == HOSTILE


async def test_what_is_too_long_for_the_parent_is_started_the_ordinary_way(forking: Make) -> None:
    forks = forking()
    await forks.preload.warm()
    long = ["x" * 100_000] * 5
    async with forks.child("describe", *long) as child:
        assert not forks.forked(child)
        assert (await description(child))["arguments"] == long
    async with forks.child("describe") as child:
        assert forks.forked(child)


@pytest.mark.parametrize("words", [["describe", "pbmc.h5ad"], ["describe", "x" * 5000, "/end/pbmc.h5ad"]])
async def test_a_list_of_processes_shows_what_each_one_does(forking: Make, words: list[str]) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child(*words) as child:
        shown = " ".join(psutil.Process(child.pid).cmdline())
        assert shown.startswith(f"{sys.executable} -m cxg_proxy.viewer describe")
        assert shown.endswith("pbmc.h5ad")
        assert " ".join(forks.parents[0].cmdline()).endswith("-m cxg_proxy.viewer preload")


def instances(forks: Forking, short: Path, behaviour: str) -> Instances:
    """The instances of a gateway with such a preload, and with fakes in the place of viewers."""
    place = WorkerEnvironment(short, short / "logs", environment(), forks.preload)
    limits, visits = Limits(patience=0.5), Visits(short / "visits.json")
    return Instances(lambda _, socket: [*forks.viewer, behaviour, str(socket)], place, limits, visits)


async def test_a_viewer_can_be_closed_while_its_parent_loads(
    forking: Make, short: Path, h5ad: Callable[[], Path]
) -> None:
    dataset = Library({"data": h5ad().parent}).find("data/pbmc.h5ad")
    instance = await instances(forking("mute"), short, "quick").open(dataset)
    await until(lambda: instance.phase is Phase.STARTING)
    await asyncio.wait_for(instance.close(), 20)
    assert instance.phase is Phase.CLOSED


async def test_a_forked_viewer_lives_and_dies_as_others_do(
    forking: Make, short: Path, h5ad: Callable[[], Path]
) -> None:
    dataset, forks = Library({"data": h5ad().parent}).find("data/pbmc.h5ad"), forking()
    instance = await instances(forks, short, "mirror").open(dataset)
    await instance.ready()
    assert instance.pid is not None
    assert psutil.Process(instance.pid).ppid() == forks.parents[0].pid
    assert instance.socket.exists()
    await instance.close()
    assert instance.problem is None
    assert not instance.socket.exists()
    instance = await instances(forks, short, "gone").open(dataset)
    with pytest.raises(Died, match="killed from outside, SIGKILL"):
        await instance.ready()
    instance = await instances(forks, short, "crashing").open(dataset)
    with pytest.raises(Died, match="exit status 3") as died:
        await instance.ready()
    assert died.value.log == ("the file is made of cheese",)
