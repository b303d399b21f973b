import asyncio
import gc
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import pytest

from cxg_proxy.errors import StorageSilent
from cxg_proxy.files import disk
from cxg_proxy.files.disk import disk_thread, on_disk
from cxg_proxy.gateway.workers.process import within
from waiting import until


class Ended(BaseException):
    """What ends a program, as SystemExit does, and is no Exception."""


def end() -> None:
    raise Ended


async def test_what_a_call_returns_or_raises_comes_back() -> None:
    assert await on_disk(lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        await on_disk(lambda: 1 // 0)
    with pytest.raises(Ended):
        await on_disk(end)


async def test_a_disk_that_does_not_answer_is_a_problem_and_no_hang() -> None:
    answer = threading.Event()
    with pytest.raises(StorageSilent, match="does not answer"):
        await on_disk(answer.wait, patience=0.05)
    answer.set()
    await until(lambda: not disk._waiting)


async def test_whoever_is_cancelled_in_the_moment_of_the_answer_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    back = disk._back

    def and_cancel(*answer: Any) -> None:
        back(*answer)
        asking.cancel()

    monkeypatch.setattr(disk, "_back", and_cancel)
    asking = asyncio.ensure_future(on_disk(lambda: 1))
    await asyncio.wait({asking}, timeout=10)
    assert asking.cancelled()


async def test_whoever_is_cancelled_in_the_moment_of_an_event_is_cancelled() -> None:
    event = asyncio.Event()
    waiting = asyncio.ensure_future(within(10, event))
    for _ in range(3):  # by now it waits
        await asyncio.sleep(0)
    event.set()
    await asyncio.sleep(0)  # by now it has heard of it
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=10)
    assert waiting.cancelled()


async def test_a_disk_that_hangs_gets_a_bounded_number_of_calls() -> None:
    answer = threading.Event()
    for _ in range(disk.MAX_WAITING):
        with pytest.raises(StorageSilent):
            await on_disk(answer.wait, patience=0)
    with pytest.raises(StorageSilent, match="wait for it already"):
        await on_disk(lambda: None)
    answer.set()
    await until(lambda: not disk._waiting)
    assert await on_disk(lambda: "again") == "again"


async def test_a_place_that_hangs_takes_no_turns_from_another() -> None:
    answer = threading.Event()
    for _ in range(disk.MAX_WAITING):
        with pytest.raises(StorageSilent):
            await on_disk(answer.wait, place="home", patience=0)
    assert await on_disk(lambda: "there", place="atlas") == "there"
    answer.set()
    await until(lambda: not disk._waiting)


async def test_a_stream_makes_all_its_calls_in_one_thread_which_ends_with_it() -> None:
    async with disk_thread() as call:
        threads = [await call(threading.current_thread) for _ in range(100)]
        with pytest.raises(ZeroDivisionError):
            await call(lambda: 1 // 0)
        assert await call(lambda: "again") == "again"
    assert len(set(threads)) == 1
    await until(lambda: not threads[0].is_alive())


async def test_a_stream_whose_disk_hangs_is_a_problem_and_its_thread_ends_when_the_disk_answers() -> None:
    answer = threading.Event()
    async with disk_thread() as call:
        thread = await call(threading.current_thread)
        for work in (answer.wait, lambda: True):  # the second one waits behind the first
            with pytest.raises(StorageSilent, match="does not answer"):
                await call(work, patience=0.05)
    assert thread.is_alive()
    answer.set()
    await until(lambda: not thread.is_alive() and not disk._waiting)


async def test_a_stream_that_hangs_counts_as_waiting_for_its_place() -> None:
    answer = threading.Event()
    async with disk_thread("home") as call:
        for _ in range(disk.MAX_WAITING):
            with pytest.raises(StorageSilent):
                await call(answer.wait, patience=0)
        with pytest.raises(StorageSilent, match="wait for it already"):
            await on_disk(lambda: None, place="home")
        assert await on_disk(lambda: "there", place="atlas") == "there"
    answer.set()
    await until(lambda: not disk._waiting)


async def test_a_thread_that_cannot_be_started_leaves_nothing_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await on_disk(lambda: None)
    assert not disk._waiting


@pytest.mark.parametrize("fails", [False, True])
async def test_what_comes_when_nobody_waits_for_it_any_more_is_dropped_without_a_word(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answer = threading.Event()

    def late() -> float:
        answer.wait()
        return 1 / (not fails)

    with pytest.raises(StorageSilent):
        await on_disk(late, patience=0.05)
    answer.set()
    await until(lambda: not disk._waiting)
    gc.collect()  # asyncio speaks of an error that nobody has looked at when it is collected
    assert caplog.records == []


def test_a_disk_that_answers_when_everything_has_ended_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, threads, faults = threading.Event(), [], []

    def late() -> None:
        threads.append(threading.current_thread())
        answer.wait()

    async def ask() -> None:
        with pytest.raises(StorageSilent):
            await on_disk(late, patience=0.05)

    monkeypatch.setattr(disk, "_waiting", Counter())
    monkeypatch.setattr(threading, "excepthook", faults.append)
    asyncio.run(ask())
    answer.set()
    threads[0].join()
    assert faults == []


def test_a_call_that_never_returns_cannot_keep_the_process_from_ending() -> None:
    program = (
        "import asyncio, time\n"
        "from cxg_proxy.files.disk import on_disk\n"
        "from cxg_proxy.errors import StorageSilent\n"
        "async def main():\n"
        "    try:\n"
        "        await on_disk(lambda: time.sleep(60), patience=0.05)\n"
        "    except StorageSilent:\n"
        "        print('silent')\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], timeout=20) == b"silent\n"
