"""Sends labels and gene sets to where the host wants them, and remembers what was sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Outgoing:
    """A file to send: what it is called there, and what is in it."""

    name: str
    content: bytes


@runtime_checkable
class Sender(Protocol):
    """A host that takes files, such as Galaxy with its history."""

    name: str  # as in “Save to history now”

    async def send(self, files: Sequence[Outgoing]) -> Sequence[str]:
        """Take the files and return what they are called there; raises NotSent."""


@dataclass(frozen=True)
class Sent:
    """What was sent last; in seconds since 1970."""

    time: float
    names: Sequence[str]


class Outbox:
    """The way to one sender."""

    def __init__(self, sender: Sender) -> None:
        self.name = sender.name
        self._sender = sender
        self._last: dict[str, Sent] = {}

    async def send(self, dataset: str, files: Sequence[Outgoing]) -> Sent:
        """Send what is saved for a dataset; raises NotSent."""
        sent = Sent(time.time(), tuple(await self._sender.send(files)))
        self._last[dataset] = sent
        return sent

    def last(self, dataset: str) -> Sent | None:
        """What was sent last for a dataset."""
        return self._last.get(dataset)
