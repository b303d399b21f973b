"""Remote datasets, at http(s) addresses: each is downloaded once into the cache, and checked whenever it is opened.

A download that was killed continues where it stopped. One gateway of a user downloads, while the others wait and follow
its progress. Addresses may hold secrets (presigned ones do), so none is written anywhere, and no message here contains
one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TypeVar

from cxg_proxy import __version__
from cxg_proxy.errors import NotDownloaded, Problem, StorageSilent
from cxg_proxy.files.disk import DiskThread, disk_thread

from .dataset import Dataset
from .download import Copy, RemoteVersion, share, sweep
from .http_client import Reply, RequestFailed, get_reply

PATIENCE_SECONDS = 60.0  # the longest that a server or a disk may be silent
CHECK_SECONDS = 10.0  # the longest that a server may be silent if there is a copy to show instead
LOOK_SECONDS = 0.2  # how often a waiting gateway checks whether the other one is done
NO_ROOM = (
    "Make room on the disk that holds your cache folder (your administrator sets it with the option Gateway.cache).",
    "Then try again: the download goes on where it stopped.",
)

Tell = Callable[[float | None], None]
Result = TypeVar("Result")


class Remotes:
    """The remote addresses by name, and the folder of their copies, whose path holds no links."""

    def __init__(self, folder: Path, addresses: Mapping[str, str], *, patience: float = PATIENCE_SECONDS) -> None:
        self.folder = folder
        self._addresses, self._patience = dict(addresses), patience
        # A daemon thread, because the cache lies in the user's home, which may hang.
        threading.Thread(target=sweep, args=(folder, time.time()), daemon=True, name="sweep").start()

    async def fetch(self, dataset: Dataset, tell: Tell) -> Dataset:
        """Download the dataset unless its copy is current, and return it; raises NotDownloaded or StorageSilent.

        An existing copy is used if the address cannot be reached. `tell` receives the share that has been downloaded.
        """
        return await _Fetch(dataset, self._addresses[dataset.label], self._patience, tell).run()


class _Fetch:
    """One fetch of one dataset."""

    def __init__(self, dataset: Dataset, address: str, patience: float, tell: Tell) -> None:
        self._dataset, self._address, self._patience, self._tell = dataset, address, patience, tell
        self._copy = Copy(dataset.real)
        self._call: DiskThread
        self._work: asyncio.Future[object] | None = None

    async def run(self) -> Dataset:
        """Wait for the lock, then download what is missing or has changed."""
        try:
            async with disk_thread() as self._call, self._alone():
                await self._renew()
                found = await self._on_disk(self._copy.file.stat)
        except OSError as reason:
            raise self._why(reason) from reason
        return replace(self._dataset, bytes=found.st_size, modified_ns=found.st_mtime_ns, inode=found.st_ino)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        while (lock := await self._on_disk(self._copy.lock)) is None:
            self._tell(await self._on_disk(self._copy.share))
            await asyncio.sleep(LOOK_SECONDS)
        try:
            yield
        finally:
            self._release(lock)

    def _release(self, lock: IO[bytes]) -> None:
        """Release the lock; on a slow disk, only after the write in progress has ended."""
        if self._work is None or self._work.done():
            lock.close()
        else:
            self._work.add_done_callback(lambda work: (work.cancelled() or work.exception(), lock.close()))

    async def _on_disk(self, work: Callable[[], Result]) -> Result:
        """Call `work` in a thread, where it runs to its end even if nobody waits for it any more."""
        running: asyncio.Future[Result] = asyncio.ensure_future(self._call(work, patience=None))
        self._work = running  # type: ignore[assignment]  # its result does not matter there
        try:
            return await asyncio.wait_for(asyncio.shield(running), self._patience)
        except asyncio.TimeoutError:
            raise StorageSilent(self._dataset.label, detail=f"for {self._patience:.0f} s") from None

    async def _renew(self) -> None:
        """Ask the server for its current version and download it if it is new; without a reply, keep the old copy."""
        there, part, size = await self._on_disk(self._copy.look)
        start = size if part.strong and part.at(self._address) else 0
        try:
            if not await self._ask(there, part, start):
                await self._ask(there, part, 0)  # the partial file cannot be continued
        except (RequestFailed, Problem, OSError) as reason:
            problem = self._why(reason)
            if there is None:
                raise problem from None
            log = logging.getLogger(__name__)
            log.warning("%s: %s; the copy from before is used", self._dataset.name, problem.detail)

    async def _ask(self, there: RemoteVersion | None, part: RemoteVersion, start: int) -> bool:
        """Send the request and download what is new; return False if the server cannot continue at `start`."""
        patience = self._patience if there is None else min(self._patience, CHECK_SECONDS)
        async with get_reply(self._address, _headers(there, part, start, self._address), patience) as reply:
            begins, length = _extent(reply)
            version = RemoteVersion.of(self._address, reply.headers, length)
            if reply.code == 206 and not version.strong:  # If-Range named it, so the server need not repeat it
                version = replace(part, length=length)
            if there is not None and (reply.code == 304 or (reply.code in (200, 206) and there.same(version))):
                return True
            if start and (reply.code == 416 or (reply.code == 206 and (begins != start or not part.same(version)))):
                return False
            if reply.code != 200 and not (reply.code == 206 and start):
                raise RequestFailed(f"the server answered with status {reply.code}")
            await self._receive(reply, start if reply.code == 206 else 0, version)
        return True

    async def _receive(self, reply: Reply, start: int, version: RemoteVersion) -> None:
        await self._on_disk(functools.partial(self._copy.begin, start, version))
        self._tell(share(start, version.length))
        async for piece in reply.body():
            await self._on_disk(functools.partial(self._copy.write, start, piece))
            start += len(piece)
            self._tell(share(start, version.length))
        if version.length is not None and start != version.length:
            raise RequestFailed(f"{start} of {version.length} bytes came")
        await self._on_disk(self._copy.finish)

    def _why(self, reason: Exception) -> Problem:
        if isinstance(reason, Problem):
            return reason
        if isinstance(reason, OSError):
            detail = f"its copy cannot be written: {reason.strerror}"
            return NotDownloaded(self._dataset.label, detail=detail, steps=NO_ROOM)
        return NotDownloaded(self._dataset.label, detail=str(reason))


def _headers(there: RemoteVersion | None, part: RemoteVersion, start: int, address: str) -> dict[str, str]:
    """Return the headers that request only new content, only the missing bytes, and the bytes without an encoding."""
    headers = {"Accept-Encoding": "identity", "User-Agent": f"cxg-proxy/{__version__}"}
    if there is not None and there.at(address):
        headers |= {"If-None-Match": there.etag} if there.etag else {"If-Modified-Since": there.modified}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": part.strong}
    return headers


def _extent(reply: Reply) -> tuple[int, int | None]:
    """Return where the reply's body begins in the whole content, and how long the whole content is."""
    if reply.code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
        return (int(found[1]), int(found[2]) if found[2] != "*" else None) if found else (-1, None)
    length = reply.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() and length.isascii() else None
