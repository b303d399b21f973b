"""The outbox, which sends labels and gene sets to the host and remembers what was sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Outgoing:
    """A file to send: its name at the host, and its content."""

    name: str
    content: bytes


@runtime_checkable
class Sender(Protocol):
    """A host that takes files, such as Galaxy with its history."""

    name: str  # as in “Save to history now”

    async def send(self, files: Sequence[Outgoing]) -> Sequence[str]:
        """Send the files, and return their names at the host; raises NotSent."""


@dataclass(frozen=True)
class Sent:
    """The names of the files sent last, and the time, in seconds since 1970."""

    time: float
    names: Sequence[str]


class Outbox:
    """The outbox for one sender."""

    def __init__(self, sender: Sender) -> None:
        self.name = sender.name
        self._sender = sender
        self._last: dict[str, Sent] = {}

    async def send(self, dataset: str, files: Sequence[Outgoing]) -> Sent:
        """Send the saved files of a dataset; raises NotSent."""
        sent = Sent(time.time(), tuple(await self._sender.send(files)))
        self._last[dataset] = sent
        return sent

    def last(self, dataset: str) -> Sent | None:
        """Return what was last sent for a dataset, None if nothing was."""
        return self._last.get(dataset)
