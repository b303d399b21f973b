"""The report of a child: its steps, its result, and what is said of a child that fails or ends."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from cxg_proxy import __version__
from cxg_proxy.errors import BadOptions, Died, NotEnoughMemory, Problem, ViewerMismatch, ViewerMissing
from cxg_proxy.gateway.workers import process
from cxg_proxy.gateway.workers import report as module
from cxg_proxy.gateway.workers.process import UNKNOWN
from cxg_proxy.gateway.workers.report import Report, reporting
from cxg_proxy.steps import Phase, Step

Run = Callable[[str], AbstractAsyncContextManager[Report]]
HELLO = f"echo '{Step(Phase.STARTING, version=__version__).line().decode().strip()}'; "
READY = f"echo '{Step(Phase.READY).line().decode().strip()}'; "


@pytest.fixture(name="run")
def a_child(tmp_path: Path) -> Run:
    """A function that runs a line of the shell as a child."""
    return lambda line: reporting(
        ["sh", "-c", line], "pbmc.h5ad", deque(maxlen=20), cwd=tmp_path, environment={"PATH": "/usr/bin:/bin"}
    )


async def phases(steps: AsyncIterator[Step]) -> list[str]:
    return [step.phase.value async for step in steps]


async def test_a_child_reports_steps_and_a_result_and_what_else_it_writes_is_ignored(run: Run) -> None:
    async with run(HELLO + "echo a library; echo 7; echo '{\"cells\": 3}'; " + READY) as report:
        assert await phases(report.steps()) == ["starting", "ready"]
        assert report.ready
        assert report.result == {"cells": 3}


async def test_a_child_without_a_last_step_is_not_ready(run: Run) -> None:
    async with run(HELLO) as report:
        assert await phases(report.steps()) == ["starting"]
        assert not report.ready
        assert report.result == {}


async def test_a_problem_that_a_child_reports_is_raised(run: Run) -> None:
    failed = Step(Phase.FAILED, problem=BadOptions("pbmc.h5ad", detail="no such layer")).line().decode().strip()
    async with run(f"{HELLO} echo '{failed}'") as report:
        with pytest.raises(BadOptions, match="no such layer"):
            await phases(report.steps())


async def test_a_child_that_fails_without_a_reason_has_died(run: Run) -> None:
    async with run(f"{HELLO} echo '{Step(Phase.FAILED).line().decode().strip()}'") as report:
        with pytest.raises(Died, match=r"pbmc\.h5ad"):
            await phases(report.steps())


async def test_a_child_of_another_version_is_refused(run: Run) -> None:
    async with run(HELLO.replace(__version__, "0.0.1") + READY) as report:
        with pytest.raises(ViewerMismatch, match=r"0\.0\.1 there, "):
            await phases(report.steps())


async def test_a_program_that_does_not_exist_is_a_missing_viewer(tmp_path: Path) -> None:
    with pytest.raises(ViewerMissing, match="No such file") as raised:
        async with reporting(["/no/python"], "pbmc.h5ad", deque(), cwd=tmp_path, environment={}):
            pass
    assert "/no/python" in raised.value.sentence


async def test_an_error_of_the_block_is_not_taken_for_a_missing_viewer(run: Run) -> None:
    with pytest.raises(FileNotFoundError):
        async with run(HELLO):
            raise FileNotFoundError


async def test_a_python_without_this_package_is_a_missing_viewer(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-m", "cxg_proxy.viewer"]
    async with reporting(command, "pbmc.h5ad", deque(maxlen=20), cwd=tmp_path, environment={}) as report:
        assert await phases(report.steps()) == []
        problem = await report.death()
    assert isinstance(problem, ViewerMissing)
    assert "it has no cxg-proxy" in problem.sentence
    missing = report.missing()
    assert missing is not None
    assert "No module named" in missing.sentence


@pytest.mark.parametrize(
    ("status", "kills", "said"),
    [
        (3, 0, (ViewerMissing, "exit status 3")),
        (0, 0, (Died, "it ended by itself")),
        (-9, 0, (Died, "lack of memory is the usual reason")),
        (-9, 1, (NotEnoughMemory, "the system ended it for lack of memory")),
        (-11, 1, (Died, "SIGSEGV")),
        (UNKNOWN, 0, (Died, "nobody could see how it ended")),
        (UNKNOWN, 1, (Died, "the system has ended something for lack of memory")),
    ],
)
async def test_the_end_of_a_child_is_explained(
    status: int, kills: int, said: tuple[type[Problem], str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run("true") as report:
        seen = module.oom_kills() + kills
        monkeypatch.setattr(module, "oom_kills", lambda: seen)

        async def ended() -> int:
            return status

        monkeypatch.setattr(report, "status", ended)
        problem = await report.death()
    assert type(problem) is said[0]
    assert said[1] in problem.sentence


async def test_a_child_that_has_reported_a_step_is_no_missing_viewer(run: Run) -> None:
    async with run(HELLO + "echo trouble >&2; exit 3") as report:
        await phases(report.steps())
        problem = await report.death()
    assert type(problem) is Died
    assert "exit status 3" in problem.sentence
    assert tuple(problem.log) == ("trouble",)


@pytest.mark.parametrize(
    ("line", "said"), [("echo why >&2; exit 1", "why"), ("exit 1", "the program stopped"), ("kill -9 $$", "SIGKILL")]
)
async def test_the_end_of_a_job_is_described_by_its_signal_or_its_last_line(line: str, said: str, run: Run) -> None:
    async with run(line) as report:
        assert await phases(report.steps()) == []
        assert said in await report.ending()


async def test_the_last_line_is_quoted_though_it_is_read_after_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_lines = process._read_lines

    async def late(child: process.Started, on_line: Callable[[bytes], None]) -> None:
        await child.wait()
        for _ in range(10):  # the report is asked for meanwhile
            await asyncio.sleep(0)
        await read_lines(child, on_line)

    monkeypatch.setattr(process, "_read_lines", late)
    async with run("echo why >&2; exit 1") as report:
        assert await report.ending() == "why"
