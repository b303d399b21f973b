"""Which dataset labels are for: a small file beside them, by which one is recognised that was moved or renamed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from . import whole

DATASET = "dataset.json"

_MOST_BYTES = 100_000


@dataclass(frozen=True)
class About:
    """The dataset that labels are for."""

    name: str
    path: str
    cells: int | None = None
    identifiers: str | None = None  # `identifiers_digest` of its cells


def identifiers_digest(cells: Iterable[str]) -> str:
    """What recognises a dataset that was moved or renamed: the same for the same cells in the same order."""
    digest = hashlib.blake2b(digest_size=16)
    for cell in cells:
        name = cell.encode(errors="surrogateescape")
        digest.update(b"%d:" % len(name) + name)  # the length, for a name may hold any separator
    return digest.hexdigest()


def described(where: Path) -> About | None:
    """What is known of the dataset these labels are for, or None."""
    try:
        with whole.opened(where) as folder:
            return _read(folder)
    except OSError:
        return None


def describe(folder: int, about: About) -> None:
    """Write it down in an open folder, if that is news."""
    if about != _read(folder):
        text = json.dumps(asdict(about), indent=2, ensure_ascii=False) + "\n"
        whole.replace(folder, DATASET, text.encode(errors="surrogatepass"))  # as `json` reads it


def _read(folder: int) -> About | None:
    try:
        known = json.loads(whole.read(folder, DATASET, most=_MOST_BYTES))
        about = About(**{field.name: known.get(field.name) for field in fields(About)})
    except (OSError, ValueError, AttributeError):
        return None
    texts, cells = (about.name, about.path, about.identifiers or ""), about.cells
    return about if all(isinstance(text, str) for text in texts) and isinstance(cells, int | None) else None
