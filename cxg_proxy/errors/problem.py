"""What a problem is: what happened, to which thing, and what to do next; and how a worker tells it to the gateway."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, ClassVar


class Problem(Exception):
    """Something that kept a user from what they wanted; every subclass is one cause.

    `which` names the thing (usually a file name), `detail` adds what only this occurrence knows, and `log`
    holds the last lines the worker wrote. In `steps`, text between backquotes is a command to copy.
    """

    title: ClassVar[str] = "Something went wrong"
    what: ClassVar[str] = "this did not work, and cxg-proxy does not know why"
    steps: tuple[str, ...] = ("Try again.", "If it stays like this, show the log lines below to your administrator.")

    def __init__(self, which: str = "", *, detail: str = "", steps: Sequence[str] = (), log: Sequence[str] = ()):
        self.which = which
        self.detail = detail
        self.log = tuple(log)
        if steps:
            self.steps = tuple(steps)
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """What happened to which thing, as one sentence."""
        what = f"{self.which}: {self.what}" if self.which else self.what[:1].upper() + self.what[1:]
        return f"{what} ({self.detail.rstrip('. ')})." if self.detail else f"{what}."

    def name_in_steps(self, placeholder: str, name: str) -> None:
        """Put a real name, quoted for a shell, where the steps' commands hold a placeholder."""
        self.steps = tuple(step.replace(placeholder, shlex.quote(name)) for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The problem as plain data, for the wire between worker and gateway and for the JSON twin of its page."""
        texts = {name: getattr(self, name) for name in ("title", "sentence", "which", "detail")}
        return {"kind": type(self).__name__, **texts, "steps": list(self.steps), "log": list(self.log)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Problem:
        """The problem that `to_json` described; an unknown kind (of another version) becomes a plain `Problem`."""
        kinds = {cls.__name__: cls for cls in _all_kinds(Problem)}
        kind = kinds.get(str(data.get("kind")), Problem)
        return kind(
            str(data.get("which", "")),
            detail=str(data.get("detail", "")),
            steps=[str(step) for step in data.get("steps", ())],
            log=[str(line) for line in data.get("log", ())],
        )


def _all_kinds(kind: type[Problem]) -> list[type[Problem]]:
    return [kind] + [deeper for below in kind.__subclasses__() for deeper in _all_kinds(below)]
