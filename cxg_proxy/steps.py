"""Steps that a worker reports to the gateway as it starts: one JSON line each, on its standard output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .errors import Problem


class Phase(str, Enum):
    """A phase in the life of a worker; only the moves in `LEGAL`, all forward, are allowed."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


# The phases that may follow each phase.
LEGAL = {
    Phase.QUEUED: {Phase.DOWNLOADING, Phase.STARTING, Phase.CLOSED, Phase.FAILED},
    Phase.DOWNLOADING: {Phase.STARTING, Phase.CLOSED, Phase.FAILED},
    Phase.STARTING: {Phase.LOADING, Phase.READY, Phase.CLOSING, Phase.FAILED},
    Phase.LOADING: {Phase.READY, Phase.CLOSING, Phase.FAILED},
    Phase.READY: {Phase.CLOSING, Phase.FAILED},
    Phase.CLOSING: {Phase.CLOSED},
    Phase.CLOSED: set(),
    Phase.FAILED: set(),
}
OVER = {Phase.CLOSED, Phase.FAILED}


@dataclass(frozen=True)
class Step:
    """One line from a worker.

    `done` is the completed share of the phase, 0 to 1, or None where it cannot be known. `version` is the version of
    the worker's cxg-proxy, sent in its first line. `problem` comes with `Phase.FAILED` only. `note` holds sentences
    that a person should read although all went well. `state` comes with `Phase.READY`: the tags of replies are
    computed from it (see `etags`).
    """

    phase: Phase
    done: float | None = None
    version: str = ""
    problem: Problem | None = None
    note: str = ""
    state: str = ""

    def line(self) -> bytes:
        """Return the step as one line of JSON."""
        data: dict[str, Any] = {"phase": self.phase.value}
        if self.done is not None:
            data["done"] = round(self.done, 3)
        if self.version:
            data["version"] = self.version
        if self.problem is not None:
            data["problem"] = self.problem.to_json()
        if self.note:
            data["note"] = self.note
        if self.state:
            data["state"] = self.state
        return json.dumps(data).encode() + b"\n"

    @staticmethod
    def parse(line: bytes) -> Step:
        """Read a step back from its line; raises ValueError for anything `line` cannot have written."""
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError(f"not a step: {line!r}")  # noqa: TRY004 - one error for anything that is not a step
        done = data.get("done")
        if done is not None:
            done = min(1.0, max(0.0, float(done)))
        problem = data.get("problem")
        return Step(
            phase=Phase(data.get("phase")),
            done=done,
            version=str(data.get("version", "")),
            problem=Problem.from_json(problem) if isinstance(problem, dict) else None,
            note=str(data.get("note", "")),
            state=str(data.get("state", "")),
        )
