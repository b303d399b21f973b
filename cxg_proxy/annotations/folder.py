"""The two files of a folder of labels, as they can be read; `annotations` writes them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cxg_proxy.files import atomic

from .about import About, described

LABELS = "cell-labels.csv"
GENE_SETS = "gene-sets.csv"


def version(where: Path, name: str) -> tuple[int, int, int] | None:
    """What tells one state of the file from another, or None while there is none to be seen."""
    try:
        status = os.stat(where / name)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def read(where: Path, name: str) -> bytes | None:
    """The file as it is now, or None if nothing was saved yet; OSError if it is no file, or its folder a link."""
    try:
        with atomic.opened(where) as folder:
            return atomic.read(folder, name, follow=True)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(where):  # nothing is saved through one, so nothing is read
            raise
        return None


def saved(where: Path) -> float | None:
    """When something was last saved here, in seconds since 1970, or None."""
    times = []
    for name in (LABELS, GENE_SETS):
        with contextlib.suppress(OSError):
            times.append(os.stat(where / name).st_mtime)
    return max(times, default=None)


def same_cells(home: Path, identifiers: str, *, but: Path) -> list[tuple[Path, About]]:
    """The folders of other datasets with the same cells that hold something saved, the latest first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        folders = (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
        for folder in folders:
            about = described(folder) if folder.name != but.name else None
            when = saved(folder) if about and about.identifiers == identifiers else None
            if about and when is not None:
                found.append((when, folder, about))
    return [(folder, about) for _, folder, about in sorted(found, key=lambda each: (-each[0], each[1]))]
