"""The visits to datasets: when each was last opened, how long that took, and its state, kept between gateway runs."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxg_proxy.files.atomic import write_whole

MAX_VISITS = 2000  # the most datasets remembered; those unopened for longest are forgotten first


@dataclass(frozen=True)
class Visit:
    """The last visit to a dataset: when it was opened (seconds since 1970), and how many seconds it took to be ready.

    `state` is what its worker made the tags of its replies from; it is valid while `circumstances` stays the same.
    """

    opened: float
    seconds: float
    state: str = ""
    circumstances: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Visit:
        """Read what `asdict` returned in this or an earlier version; raises ValueError, KeyError or TypeError."""
        words = (str(data.get(name, "")) for name in ("state", "circumstances"))
        return cls(float(data["opened"]), float(data["seconds"]), *words)


class Visits:
    """A small file of visits. Losing it costs an estimate and a sort order, so no failure to write it is reported."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._visits: dict[str, Visit] = {}

    def load(self) -> None:
        """Read the visits of earlier runs. This looks at the disk."""
        self._visits = {**self._read(), **self._visits}

    def get(self, real: Path) -> Visit | None:
        """Return the last visit to the file, None if it was never opened."""
        return self._visits.get(str(real))

    def add(self, real: Path, visit: Visit) -> None:
        """Remember a visit in place of the previous one."""
        self._visits.pop(str(real), None)
        self._visits[str(real)] = visit
        while len(self._visits) > MAX_VISITS:
            del self._visits[next(iter(self._visits))]
        content = json.dumps({name: asdict(visit) for name, visit in self._visits.items()}).encode()
        # A daemon thread, because the file lies in the user's home, which may hang.
        threading.Thread(target=self._keep, args=(content,), daemon=True, name="visits").start()

    def _keep(self, content: bytes) -> None:
        with contextlib.suppress(OSError):
            write_whole(self.file, content)

    def _read(self) -> dict[str, Visit]:
        try:
            data = json.loads(self.file.read_bytes())
            return {str(name): Visit.from_json(visit) for name, visit in data.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
