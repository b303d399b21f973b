"""One instance: how it starts, what it tells, how it ends."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cxg_proxy.errors import Died, NoEmbedding, Problem, StartTimeout, Stopped, ViewerMismatch, ViewerMissing
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.steps import Phase
from instance_fixtures import Make, a_dataset, pid_of, some_instances  # noqa: F401 - fixtures
from processes import gone
from waiting import until


async def test_a_dataset_that_is_opened_becomes_ready(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances().open(dataset())
    await instance.ready()
    assert instance.phase is Phase.READY
    assert instance.socket.is_socket()


async def test_progress_is_told_while_it_loads(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances("slow").open(dataset())
    await until(lambda: instance.phase is Phase.LOADING)
    assert instance.done == 0.25
    go = Path(f"{instance.socket}.go")
    await asyncio.to_thread(go.touch)
    await instance.ready()
    await asyncio.to_thread(go.unlink)


async def test_a_ready_worker_goes_on_telling_what_it_prepares(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    instance = await instances("preparing").open(dataset())
    await instance.ready()
    assert (instance.done, instance.note) == (0.0, "")
    told = instance.next_change
    go = Path(f"{instance.socket}.go")
    await asyncio.to_thread(go.write_text, '[0.43, ""]\n')
    await until(lambda: instance.done == 0.43)
    assert told.is_set()
    await asyncio.to_thread(go.write_text, '[0.43, ""]\n[null, "There is no room."]\n')
    await until(lambda: instance.done is None)
    assert instance.note == "There is no room."
    assert instance.phase is Phase.READY
    await instance.close()
    assert instance.phase is Phase.CLOSED
    await asyncio.to_thread(go.unlink)


async def test_closing_ends_the_worker_and_removes_its_socket(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances().open(dataset())
    await instance.ready()
    pid = pid_of(instance)
    await instance.close()
    assert instance.phase is Phase.CLOSED
    assert gone(pid)
    assert not instance.socket.exists()


async def test_a_deaf_worker_is_killed_after_patience(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances("deaf").open(dataset())
    await instance.ready()
    pid = pid_of(instance)
    await instance.close()
    assert instance.phase is Phase.CLOSED
    assert gone(pid)


async def test_closing_while_it_loads_ends_it_at_once(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances("slow").open(dataset())
    await until(lambda: instance.phase is Phase.LOADING)
    await instance.close()
    assert instance.phase is Phase.CLOSED
    with pytest.raises(Stopped):
        await instance.ready()


@pytest.mark.parametrize(
    ("behaviour", "problem", "said"),
    [
        ("crashing", Died, r"pbmc: .*it ended with exit status 3"),
        ("gone", Died, r"killed from outside, SIGKILL; lack of memory is the usual reason"),
        ("failing", NoEmbedding, r"pbmc\.h5ad: this file has no 2-D embedding"),
        ("other", ViewerMismatch, r"0\.0\.0 there, .* here"),
    ],
)
async def test_a_worker_that_fails_says_why(
    behaviour: str, problem: type[Problem], said: str, instances: Make, dataset: Callable[..., Dataset]
) -> None:
    instance = await instances(behaviour).open(dataset())
    with pytest.raises(problem, match=said):
        await instance.ready()
    assert instance.phase is Phase.FAILED


async def test_the_last_log_lines_stay_with_a_failed_instance_and_in_its_file(
    instances: Make, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    instance = await instances("crashing").open(dataset())
    with pytest.raises(Died) as caught:
        await instance.ready()
    assert caught.value.log == ("the file is made of cheese",)
    (log,) = (tmp_path / "logs").glob("pbmc-*.log")
    assert "the file is made of cheese" in log.read_text()


async def test_a_ready_worker_that_is_killed_is_told_of(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances().open(dataset())
    await instance.ready()
    os.kill(pid_of(instance), signal.SIGKILL)
    await until(lambda: instance.over)
    assert isinstance(instance.problem, Died)


async def test_a_silent_worker_is_given_up_after_the_start_timeout(
    instances: Make, dataset: Callable[..., Dataset]
) -> None:
    instance = await instances("silent", start_timeout=0.3).open(dataset())
    with pytest.raises(StartTimeout):
        await instance.ready()


async def test_a_missing_viewer_python_is_said_to_be_missing(instances: Make, dataset: Callable[..., Dataset]) -> None:
    instance = await instances(lambda *_: ["/no/such/python"]).open(dataset())
    with pytest.raises(ViewerMissing, match="/no/such/python"):
        await instance.ready()


async def test_a_chatty_worker_fills_neither_memory_nor_disk(
    instances: Make, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    instance = await instances("chatty").open(dataset())
    await instance.ready()
    assert len(instance.log) == 20
    assert sum(file.stat().st_size for file in (tmp_path / "logs").iterdir()) < 2_500_000


async def test_a_full_disk_for_logs_keeps_no_viewer_closed(
    instances: Make, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    instance = await instances().open(dataset())
    await instance.ready()
