"""The folder of one dataset's labels: its name, its two files, and `dataset.json`, which describes the dataset."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cxg_proxy.files import atomic

LABELS = "cell-labels.csv"
GENE_SETS = "gene-sets.csv"

DATASET = "dataset.json"
_MAX_BYTES = 100_000
_STEM_BYTES = 120


def version(where: Path, name: str) -> tuple[int, int, int] | None:
    """Return inode, size and modification time, which identify one state of the file, or None if it cannot be seen."""
    try:
        status = os.stat(where / name)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def read(where: Path, name: str) -> bytes | None:
    """Read the file, or return None if nothing was saved yet.

    Raises OSError if it is not a regular file, or if its folder is a symbolic link.
    """
    try:
        with atomic.opened(where) as folder:
            return atomic.read(folder, name, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(where):  # nothing is saved through a link, so nothing is read
            raise
        return None


def saved(where: Path) -> float | None:
    """Return when something was last saved here, in seconds since 1970, or None."""
    times = []
    for name in (LABELS, GENE_SETS):
        with contextlib.suppress(OSError):
            times.append(os.stat(where / name).st_mtime)
    return max(times, default=None)


def same_cells(home: Path, identifiers: str, *, excluding: Path) -> list[tuple[Path, DatasetRecord]]:
    """List the folders of other datasets that have the same cells and something saved, the latest first."""
    matches = []
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        folders = (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        for folder in folders:
            record = read_record(folder) if folder.name != excluding.name else None
            when = saved(folder) if record and record.identifiers == identifiers else None
            if record and when is not None:
                matches.append((when, folder, record))
    return [(folder, record) for _, folder, record in sorted(matches, key=lambda each: (-each[0], each[1]))]


def directory(home: Path, dataset: Path) -> Path:
    """Return the folder of this user's labels for `dataset`, the same by whatever path the file is reached."""
    return named(home, os.path.realpath(dataset))


def named(home: Path, name: str) -> Path:
    """Return the folder of labels for a dataset that has a name but no file of its own, only a copy that may move."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
    return home / f"{_safe_stem(os.path.basename(name))}-{digest}"


def _safe_stem(name: str) -> str:
    stem = display_name(name).removesuffix(".h5ad")
    stem = re.sub(r"[^\w.+-]+", "_", stem).strip("._-")
    return stem.encode()[:_STEM_BYTES].decode(errors="ignore") or "dataset"


def display_name(path: str) -> str:
    """Return the file's name for people and for CSV headers: one line, whatever bytes the real name holds."""
    name = os.fsencode(os.path.basename(path)).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


@dataclass(frozen=True)
class DatasetRecord:
    """The description of the dataset that labels are for."""

    name: str
    path: str
    cells: int | None = None
    identifiers: str | None = None  # `identifiers_digest` of its cells


def identifiers_digest(cells: Iterable[str]) -> str:
    """Digest the cells' names in their order, so that a dataset is recognised after it was moved or renamed."""
    digest = hashlib.blake2b(digest_size=16)
    for cell in cells:
        name = cell.encode(errors="surrogateescape")
        digest.update(b"%d:" % len(name) + name)  # the length, since a name may hold any separator
    return digest.hexdigest()


def read_record(where: Path) -> DatasetRecord | None:
    """Read the description of the dataset that these labels are for, or return None."""
    try:
        with atomic.opened(where) as folder:
            return _read(folder)
    except OSError:
        return None


def write_record(folder: int, record: DatasetRecord) -> None:
    """Write the description of the dataset into an open folder, unless it is unchanged."""
    if record != _read(folder):
        text = json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n"
        atomic.replace(folder, DATASET, text.encode(errors="surrogatepass"))  # as `json` decodes it


def _read(folder: int) -> DatasetRecord | None:
    try:
        data = json.loads(atomic.read(folder, DATASET, limit=_MAX_BYTES))
        record = DatasetRecord(**{field.name: data.get(field.name) for field in fields(DatasetRecord)})
    except (OSError, ValueError, AttributeError):
        return None
    texts, cells = (record.name, record.path, record.identifiers or ""), record.cells
    return record if all(isinstance(text, str) for text in texts) and isinstance(cells, int | None) else None
