"""The gateway's end of the socket to one parent of workers; what the two say is in `viewer/preload.py`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxg_proxy import __version__

from .forked import Ends, Forked

_LONGEST = 1 << 16  # bytes of a packet


class NotForked(Exception):
    """Why the parent could not fork a worker."""


class Parent:
    """One parent, from the pair of sockets on; `patience` is for its reply, and for a worker's first word."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Forked]] = {}
        self.workers: dict[int, Forked] = {}
        self.settled = asyncio.Event()  # it can fork now, or never will
        self.news = asyncio.Event()  # it is lost, not used any more, or has no workers any more
        self.reason = "it does not get ready"  # why it cannot fork, if so
        self.retired = False  # it is to fork no more
        self.lost = False  # it is not even to tell how its workers end
        self.proven = False  # it has forked a worker that spoke

    @property
    def usable(self) -> bool:
        """Whether it can fork now."""
        return self.settled.is_set() and not self.retired

    @property
    def busy(self) -> bool:
        """Whether it has workers, or is asked for one."""
        return bool(self.workers or self._asked)

    def listen(self) -> None:
        """Hear what it says from now on; it has its end of the socket."""
        self.theirs.close()
        asyncio.get_running_loop().add_reader(self._ours, self._hear)

    def retire(self, reason: str) -> None:
        """Have it fork no more."""
        if not self.retired:
            self.retired, self.reason = True, reason
        self.settled.set()
        self.news.set()

    def lose(self, reason: str) -> None:
        """Have no more to do with it; its workers go on."""
        self.lost = True
        self.retire(reason)

    def close(self) -> None:
        """Close the socket, which ends it."""
        if self._ours.fileno() < 0:
            return
        self.lose("it has ended")
        asyncio.get_running_loop().remove_reader(self._ours)
        self._ours.close()
        self.theirs.close()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(NotForked(self.reason))
        for worker in self.workers.values():
            worker.left_alone()

    async def fork(self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Forked:
        """A new worker, which has said its first word; raises NotForked."""
        number = next(self._numbers)
        order = {"number": number, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        ends = Ends()
        try:
            worker = await self._asked_for(number, json.dumps(order).encode(), ends)
            await self._greeted(worker, ends)
        except OSError as reason:
            raise NotForked(str(reason)) from reason
        finally:
            ends.close()
        return worker

    async def _asked_for(self, number: int, order: bytes, ends: Ends) -> Forked:
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._ours, [order], ends.theirs)
            ends.close_theirs()
            return await asyncio.wait_for(asked, self._patience)
        except asyncio.TimeoutError:
            self.lose("it does not answer")
            raise NotForked(self.reason) from None
        except OSError as reason:
            if reason.errno != errno.EMSGSIZE:  # an order too long for a packet says nothing about the parent
                self.lose(str(reason))
            raise
        finally:
            del self._asked[number]
            self.news.set()

    async def _greeted(self, worker: Forked, ends: Ends) -> None:
        """Connect to a worker and wait for its first word; without that, nothing of it stays."""
        greeted = False
        try:
            await worker.connect(ends)
            with contextlib.suppress(asyncio.TimeoutError):
                greeted = await asyncio.wait_for(worker.first_word(), self._patience)
        finally:
            if not greeted:
                worker.signal_group(signal.SIGKILL)
                worker.free()
        if not greeted:
            self.retire("a worker of it said nothing")
            raise NotForked(self.reason)
        self.proven = True

    # --- what it says -----------------------------------------------------------------------------------------

    def _hear(self) -> None:
        try:
            packet, descriptors, *_ = socket.recv_fds(self._ours, _LONGEST, 1)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if packet:
            self._obey(json.loads(packet), descriptors)
        else:
            self.close()

    def _obey(self, said: dict[str, Any], descriptors: list[int]) -> None:
        number = said.get("number", 0)
        asked = self._asked.get(number)
        if "version" in said:
            self._compare(said["version"])
        elif "ready" in said:
            self.settled.set()
        elif "pid" in said and descriptors:
            self._take(number, Forked(said["pid"], descriptors[0], lambda: self._free(number)), asked)
        elif "status" in said:
            if number in self.workers:
                self.workers[number].told(said["status"])
        else:  # or we have too many files open to be given another one
            self.retire(said.get("refused", "its worker cannot be taken over"))
            if asked is not None and not asked.done():
                asked.set_exception(NotForked(self.reason))

    def _compare(self, version: str) -> None:
        if version != __version__:
            self.lose(f"cxg-proxy {version} is in its environment, {__version__} here")

    def _take(self, number: int, worker: Forked, asked: asyncio.Future[Forked] | None) -> None:
        self.workers[number] = worker
        if asked is not None and not asked.done():
            asked.set_result(worker)
        else:  # whoever asked has given up; without its leash it ends
            worker.free()

    def _free(self, number: int) -> None:
        self.workers.pop(number, None)
        if not self.workers:
            self.news.set()
        if not self.lost:
            with contextlib.suppress(OSError):  # it has ended
                self._ours.send(json.dumps({"free": number}).encode())
