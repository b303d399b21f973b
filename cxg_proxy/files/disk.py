"""Calls to a user's disk, each in its own thread: a network home that hangs must not block anything else.

The threads are daemons, so that a call that never returns cannot keep the gateway from exiting; in asyncio's own
thread pool it would.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from cxg_proxy.errors import StorageSilent

PATIENCE_SECONDS = 10.0
MAX_WAITING = 32  # calls waiting for one place at once; a disk that hangs gets no more than these

Result = TypeVar("Result")
_waiting: Counter[str] = Counter()  # by place; changed only in the thread of the event loop


async def on_disk(work: Callable[[], Result], *, place: str = "", patience: float | None = PATIENCE_SECONDS) -> Result:
    """Call `work` in a thread and return its result or raise its error; raises StorageSilent after `patience` seconds.

    `place` names the disk as far as it is known (a library, for example). Calls are counted for each place, so that a
    hanging disk does not block calls to the others. StorageSilent is also raised when `MAX_WAITING` calls wait already.
    """
    if _waiting[place] >= MAX_WAITING:
        raise StorageSilent(detail=f"{MAX_WAITING} calls wait for it already")
    _waiting[place] += 1
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    threading.Thread(target=_run, args=(work, place, loop, future), daemon=True, name="disk").start()
    try:
        # Not wait_for: before Python 3.12 it may swallow a cancellation that arrives together with the result.
        await asyncio.wait({future}, timeout=patience)
        if not future.done():
            raise StorageSilent(detail=f"for {patience:.0f} s")
        return future.result()
    finally:
        future.cancel()


def _run(
    work: Callable[[], Result], place: str, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]
) -> None:
    result: Result | None = None
    reason: BaseException | None = None
    try:
        result = work()
    except BaseException as caught:  # noqa: BLE001 - passed on to the waiting caller
        reason = caught
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(_back, place, future, result, reason)


def _back(place: str, future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    _waiting[place] -= 1
    if not _waiting[place]:
        del _waiting[place]
    _tell(future, result, reason)


def _tell(future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    if future.done():  # the caller no longer waits
        return
    if reason is not None:
        future.set_exception(reason)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # without a reason, `work` has returned a Result
