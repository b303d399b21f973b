import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cxg_proxy.gateway.workers.process import Child, describe_status, running
from processes import gone
from waiting import until

NOTHING: Mapping[str, str] = {}


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def ignore(line: bytes) -> None:
    """A test that does not look at the log."""


def here(tmp_path: Path, program: str, patience: float = 3) -> contextlib.AbstractAsyncContextManager[Child]:
    return running(python(program), cwd=tmp_path, environment=NOTHING, on_line=ignore, patience=patience)


# Programs that stay until they are ended: 60 s is longer than any test waits.
SLEEP = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, signal, time; signal.signal(15, signal.SIG_IGN);"
    f"c = subprocess.Popen([sys.executable, '-c', {DEAF!r}], stdout=subprocess.DEVNULL);"
    "print(c.pid, flush=True); time.sleep(60)"
)
NOTING = (
    "import pathlib, signal, time; signal.signal(15, lambda *_: pathlib.Path('told').touch());"
    "print('up', flush=True); time.sleep(60)"
)


async def test_a_child_ends_with_its_block(tmp_path: Path) -> None:
    async with here(tmp_path, SLEEP) as child:
        assert [line async for line in one(child)] == [b"up\n"]
        assert not gone(child.pid)
    assert gone(child.pid)
    assert child.status == -signal.SIGTERM


async def one(child: Child):  # type: ignore[no-untyped-def]
    async for line in child.lines():
        yield line
        return


async def test_a_deaf_child_is_killed_after_patience(tmp_path: Path) -> None:
    async with here(tmp_path, DEAF, patience=0.2) as child:
        _ = [line async for line in one(child)]
    assert child.status == -signal.SIGKILL


async def test_a_deaf_childs_own_children_are_killed_with_it(tmp_path: Path) -> None:
    async with here(tmp_path, PARENT, patience=0.2) as child:
        grandchild = int(await anext(one(child)))
        assert not gone(grandchild)
    await until(lambda: gone(grandchild))


async def test_a_child_ends_when_the_task_that_waits_for_it_is_cancelled(tmp_path: Path) -> None:
    pids = []

    async def hold() -> None:
        async with here(tmp_path, NOTING, patience=0.2) as child:
            pids.append(child.pid)
            _ = [line async for line in one(child)]
            pids.append(0)
            await child.wait()

    task = asyncio.ensure_future(hold())
    await until(lambda: len(pids) == 2)
    task.cancel()
    await until((tmp_path / "told").exists)
    task.cancel()  # an impatient second cancellation must not cut the ladder short
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(pids[0])


async def test_a_child_sees_the_end_of_its_leash(tmp_path: Path) -> None:
    program = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('up', flush=True); sys.stdin.read()"
    async with here(tmp_path, program) as child:
        _ = [line async for line in one(child)]
    assert child.status == 0


async def test_what_a_child_writes_to_standard_error_is_heard_to_its_last_line(tmp_path: Path) -> None:
    heard: list[bytes] = []
    program = "import sys; [print(n, file=sys.stderr) for n in range(1000)]"
    async with running(python(program), cwd=tmp_path, environment=NOTHING, on_line=heard.append) as child:
        assert await child.wait() == 0
    assert heard[-1] == b"999\n"


async def test_an_endless_line_is_dropped_and_the_next_one_read(tmp_path: Path) -> None:
    async with here(tmp_path, "print('x' * 3_000_000); print('next', flush=True)") as child:
        assert [line async for line in child.lines()][-1] == b"next\n"


async def test_a_missing_program_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with running(["/no/such/python"], cwd=tmp_path, environment=NOTHING, on_line=ignore):
            raise AssertionError


async def test_a_child_knows_only_the_environment_it_is_given(tmp_path: Path) -> None:
    os.environ["JUPYTERHUB_API_TOKEN"] = "secret"
    try:
        async with here(tmp_path, "import os; print('JUPYTERHUB_API_TOKEN' in os.environ, flush=True)") as child:
            assert [line async for line in child.lines()] == [b"False\n"]
    finally:
        del os.environ["JUPYTERHUB_API_TOKEN"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "it ended by itself"),
        (3, "it ended with exit status 3"),
        (-9, "it was killed from outside, SIGKILL"),
        (-11, "it crashed on a memory error of its own, SIGSEGV"),
        (-40, "a signal ended it, signal 40"),
    ],
)
def test_an_exit_status_is_said_in_words(status: int, said: str) -> None:
    assert describe_status(status) == said
