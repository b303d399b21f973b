"""Calls to a user's disk in threads of their own: a network home that hangs must not block anything else.

The threads are daemons, so that a call that never returns cannot keep the gateway from exiting; in asyncio's own
thread pool it would.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from queue import SimpleQueue
from typing import TypeVar

from cxg_proxy.errors import StorageSilent

PATIENCE_SECONDS = 10.0
MAX_WAITING = 32  # calls waiting for one place at once; a disk that hangs gets no more than these

Result = TypeVar("Result")
_waiting: Counter[str] = Counter()  # by place; changed only in the thread of the event loop


async def on_disk(
    function: Callable[[], Result], *, place: str = "", patience: float | None = PATIENCE_SECONDS
) -> Result:
    """Call `function` in a thread, and return its result or raise its error.

    Raises StorageSilent after `patience` seconds, or when `MAX_WAITING` calls wait already. `place` names the disk as
    far as it is known (a library, for example). Calls are counted for each place, so that a hanging disk does not block
    calls to the others.
    """
    return await _answer(lambda call: _thread(call).start(), function, place, patience)


class DiskThread:
    """A thread that makes one call after the other, like `on_disk` makes one."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        _thread(self._run).start()

    async def __call__(self, function: Callable[[], Result], *, patience: float | None = PATIENCE_SECONDS) -> Result:
        """Call `function`, after every call before, and return its result or raise its error; raises StorageSilent."""
        return await _answer(self._calls.put, function, self._place, patience)

    def end(self) -> None:
        """Let the thread end after the calls that were made."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


@contextlib.asynccontextmanager
async def disk_thread(place: str = "") -> AsyncIterator[DiskThread]:
    """Yield what calls the disk from one thread as long as the block lasts: for a stream, which makes many calls."""
    thread = DiskThread(place)
    try:
        yield thread
    finally:
        thread.end()


def _thread(target: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=target, daemon=True, name="disk")


async def _answer(
    begin: Callable[[Callable[[], None]], object], function: Callable[[], Result], place: str, patience: float | None
) -> Result:
    """Let `begin` have a call made, and wait for its result."""
    if _waiting[place] >= MAX_WAITING:
        raise StorageSilent(detail=f"{MAX_WAITING} calls wait for it already")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    begin(lambda: _run(function, place, loop, future))
    _waiting[place] += 1  # before the loop can hear of the result
    try:
        # Not wait_for: before Python 3.12 it may swallow a cancellation that arrives together with the result.
        await asyncio.wait({future}, timeout=patience)
        if not future.done():
            raise StorageSilent(detail=f"for {patience:.0f} s")
        return future.result()
    finally:
        future.cancel()


def _run(
    function: Callable[[], Result], place: str, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]
) -> None:
    result: Result | None = None
    reason: BaseException | None = None
    try:
        result = function()
    except BaseException as caught:  # noqa: BLE001 - passed on to the waiting caller
        reason = caught
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_back, place, future, result, reason)


def _back(place: str, future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    _waiting[place] -= 1
    if not _waiting[place]:
        del _waiting[place]
    _set_result(future, result, reason)


def _set_result(future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    if future.done():  # the caller no longer waits
        return
    if reason is not None:
        future.set_exception(reason)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # without a reason, `function` has returned a Result
