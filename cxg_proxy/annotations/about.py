"""Which dataset labels are for: the name of their folder, and a small file in it that recognises a moved dataset."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cxg_proxy.files import atomic

DATASET = "dataset.json"

_MOST_BYTES = 100_000
_STEM_BYTES = 120


def directory(home: Path, dataset: Path) -> Path:
    """Where this user's labels for `dataset` are kept: the same place however the file is reached."""
    return named(home, os.path.realpath(dataset))


def named(home: Path, name: str) -> Path:
    """The same for a dataset that has a name but no file of its own, only a copy that may move."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
    return home / f"{_safe_stem(os.path.basename(name))}-{digest}"


def _safe_stem(name: str) -> str:
    stem = display_name(name).removesuffix(".h5ad")
    stem = re.sub(r"[^\w.+-]+", "_", stem).strip("._-")
    return stem.encode()[:_STEM_BYTES].decode(errors="ignore") or "dataset"


def display_name(path: str) -> str:
    """The file's name for people and for CSV headers: one line, whatever bytes the real name holds."""
    name = os.fsencode(os.path.basename(path)).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


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
        with atomic.opened(where) as folder:
            return _read(folder)
    except OSError:
        return None


def describe(folder: int, about: About) -> None:
    """Write it down in an open folder, if that is news."""
    if about != _read(folder):
        text = json.dumps(asdict(about), indent=2, ensure_ascii=False) + "\n"
        atomic.replace(folder, DATASET, text.encode(errors="surrogatepass"))  # as `json` reads it


def _read(folder: int) -> About | None:
    try:
        known = json.loads(atomic.read(folder, DATASET, most=_MOST_BYTES))
        about = About(**{field.name: known.get(field.name) for field in fields(About)})
    except (OSError, ValueError, AttributeError):
        return None
    texts, cells = (about.name, about.path, about.identifiers or ""), about.cells
    return about if all(isinstance(text, str) for text in texts) and isinstance(cells, int | None) else None
