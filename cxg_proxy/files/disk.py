"""Calls that touch a user's disk, each in a thread of its own: a network home that hangs must hang nothing else.

The threads are daemons, so that one that never returns cannot keep the gateway from ending; asyncio's own would.
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
MAX_WAITING = 32  # calls that wait for one place at once; a disk that hangs longer gets no more of them

Result = TypeVar("Result")
_waiting: Counter[str] = Counter()  # by place; only the loop's own thread counts


async def on_disk(work: Callable[[], Result], *, place: str = "", patience: float | None = PATIENCE_SECONDS) -> Result:
    """Call `work` in a thread and return or raise what it does; raises StorageSilent after `patience` seconds.

    `place` names the disk as far as it is known (a library, say): one that hangs takes no turns from the others.
    """
    if _waiting[place] >= MAX_WAITING:
        raise StorageSilent(detail=f"{MAX_WAITING} calls wait for it already")
    _waiting[place] += 1
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()
    threading.Thread(target=_run, args=(work, place, loop, future), daemon=True, name="disk").start()
    try:
        # Not wait_for: before Python 3.12 it may lose that whoever asks is cancelled when the answer comes with it.
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
    except BaseException as caught:  # noqa: BLE001 - handed to the one who waits
        reason = caught
    with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
        loop.call_soon_threadsafe(_back, place, future, result, reason)


def _back(place: str, future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    _waiting[place] -= 1
    if not _waiting[place]:
        del _waiting[place]
    _tell(future, result, reason)


def _tell(future: asyncio.Future[Result], result: Result | None, reason: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if reason is not None:
        future.set_exception(reason)
    else:
        future.set_result(result)  # type: ignore[arg-type]  # it is one when there is no reason
