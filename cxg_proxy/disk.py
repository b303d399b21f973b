"""Calls that touch a user's disk, each in a thread of its own: a network home that hangs must hang nothing else.

The threads are daemons, so that one that never returns cannot keep the gateway from ending; asyncio's own would.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from .errors import StorageSilent

PATIENCE_SECONDS = 10.0
MOST = 64  # calls that wait at once; a disk that hangs longer gets no more of them

Result = TypeVar("Result")
_waiting = threading.Semaphore(MOST)


async def on_disk(work: Callable[[], Result], *, patience: float | None = PATIENCE_SECONDS) -> Result:
    """Call `work` in a thread and return or raise what it does; raises StorageSilent after `patience` seconds."""
    if not _waiting.acquire(blocking=False):
        raise StorageSilent(detail=f"{MOST} calls wait for it already")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    threading.Thread(target=_run, args=(work, loop, future), daemon=True, name="disk").start()
    try:
        return await asyncio.wait_for(future, patience)
    except asyncio.TimeoutError:
        raise StorageSilent(detail=f"for {patience:.0f} s") from None


def _run(work: Callable[[], Result], loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]) -> None:
    result: Result | None = None
    reason: BaseException | None = None
    try:
        result = work()
    except BaseException as caught:  # noqa: BLE001 - handed to the one who waits
        reason = caught
    finally:
        _waiting.release()
    with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
        loop.call_soon_threadsafe(_tell, future, result, reason)


def _tell(future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if reason is not None:
        future.set_exception(reason)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # it is one when there is no reason
