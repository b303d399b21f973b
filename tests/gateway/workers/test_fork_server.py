"""The parent of forked workers: it comes and goes, it may be of no use, and nobody ever waits for it in vain."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from cxg_proxy.gateway.workers.process import UNKNOWN, describe_status, running
from preload_fixtures import LIGHT, Make, a_forking, description, line  # noqa: F401 - a fixture
from processes import gone
from waiting import until


async def test_workers_outlive_a_parent_that_is_killed_and_the_next_ones_have_a_new_parent(forking: Make) -> None:
    forks = forking()
    await forks.preload.warm()
    (parent,) = forks.parents
    async with forks.child("describe") as child:
        parent.kill()
        parent.wait()
        async with forks.child("describe") as ordinary:  # at once: perhaps it is not even noticed yet
            assert not forks.forked(ordinary)
            assert psutil.Process(ordinary.pid).ppid() == os.getpid()
        await forks.preload.warm()
        async with forks.child("describe") as next_one:
            assert forks.forked(next_one)
            assert forks.parents[0].pid != parent.pid
        assert child.status is None
        os.kill(child.pid, signal.SIGKILL)
        assert await child.wait() == UNKNOWN
        assert describe_status(UNKNOWN) == "nobody could see how it ended"


async def test_one_without_its_parent_is_ended_as_all_others_are(forking: Make, short: Path) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("deaf", str(short / "s"), patience=0.2) as child:
        while json.loads(await line(child))["phase"] != "ready":
            pass
        forks.parents[0].kill()
        await until(lambda: not forks.parents)
    assert gone(child.pid)


async def test_a_stopped_parent_is_replaced_and_nobody_waits_for_it(forking: Make) -> None:
    before = psutil.Process().children(recursive=True)  # of fixtures that last longer
    forks = forking(patience=0.5)
    await forks.preload.warm()
    (parent,) = forks.parents
    parent.suspend()
    async with forks.child("describe") as child:
        assert psutil.Process(child.pid).ppid() == os.getpid()
    await until(lambda: gone(parent.pid))
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.parametrize("kind", ["old", "threaded", "mute", "doomed"])
async def test_a_parent_that_is_of_no_use_is_not_used(forking: Make, kind: str) -> None:
    forks = forking(kind)
    if kind != "mute":
        await forks.preload.warm()
    async with forks.child("describe") as child:
        assert psutil.Process(child.pid).ppid() == os.getpid()
        assert (await description(child))["arguments"] == []
    if kind != "mute":
        await until(lambda: not forks.parents)
        await forks.preload.warm()
        assert not forks.parents  # it is not tried again and again


@pytest.mark.parametrize("viewer", [["/no/such/python"], ["/usr/bin/false"], ["/usr/bin/true"]])
async def test_no_viewer_or_another_program_in_its_place_is_no_reason_to_wait(
    forking: Make, viewer: list[str], short: Path
) -> None:
    forks = forking()
    forks.preload._viewer = viewer
    await asyncio.wait_for(forks.preload.warm(), 20)
    with pytest.raises(FileNotFoundError):
        async with running(["/no/such"], cwd=short, environment={}, on_line=print, start=forks.preload.start):
            raise AssertionError


async def test_packages_that_change_on_disk_are_not_mixed_with_what_is_loaded(forking: Make) -> None:
    forks = forking()
    await forks.preload.warm()
    async with forks.child("describe") as before:
        assert forks.forked(before)
        folder = Path(LIGHT).parent  # it is on the parent's search path
        (folder / "new.py").touch()
        (folder / "new.py").unlink()
        async with forks.child("describe") as ordinary:
            assert not forks.forked(ordinary)
        await forks.preload.warm()
        assert len(forks.parents) == 2  # the old one still tells how its worker ends
        async with forks.child("describe") as after:
            assert forks.forked(after)
        os.kill(before.pid, signal.SIGKILL)
        assert await before.wait() == -signal.SIGKILL
    await until(lambda: len(forks.parents) == 1)


async def test_the_parent_goes_when_nobody_has_looked_for_long_and_comes_back(forking: Make) -> None:
    forks = forking(idle_seconds=2)
    await forks.preload.warm()
    await until(lambda: not forks.parents)
    await forks.preload.warm()
    async with forks.child("describe") as child:
        (parent,) = forks.parents
        assert forks.forked(child)
        os.kill(child.pid, signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL  # it did not leave its worker alone
    await until(lambda: gone(parent.pid))


async def test_it_can_be_switched_off(forking: Make) -> None:
    forks = forking(idle_seconds=0)
    await forks.preload.warm()
    async with forks.child("describe") as child:
        assert psutil.Process(child.pid).ppid() == os.getpid()
    assert not forks.parents


@pytest.mark.parametrize("turns", range(4))
async def test_the_last_worker_and_the_gateway_may_end_in_any_order(forking: Make, turns: int) -> None:
    forks = forking()
    await forks.preload.warm()
    async with contextlib.AsyncExitStack() as block:
        await block.enter_async_context(forks.child("describe"))
        ending = asyncio.ensure_future(block.aclose())
        while forks.preload._parent.workers:  # noqa: ASYNC110 - the very turn of the loop is what matters
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(forks.preload.close(), 20)
        await ending


async def test_the_end_of_the_gateway_is_the_end_of_the_parent_while_it_loads_too(forking: Make) -> None:
    forks = forking("mute")
    waiting = asyncio.ensure_future(forks.preload.warm())
    await until(lambda: forks.parents)
    await forks.preload.close()
    assert not forks.parents
    await waiting
    forks.preload.touch()
    assert not forks.parents
