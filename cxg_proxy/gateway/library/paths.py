"""The path of a file, resolved to the dataset that the file is.

This serves `api/find`, which a host's file browser and the output of a notebook's cell request.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cxg_proxy.errors import DatasetNotFound, NotReadable, OutsideLibraries, Problem

from .dataset import SUFFIX, Dataset
from .library import Library

ELSEWHERE = "find"  # stands for the disk of a path that begins with no library


def find_near(library: Library, path: Path) -> Dataset | None:
    """Return the dataset at a path that begins with a library, or None, without accessing any other disk."""
    for name in below(library.roots, path):
        with contextlib.suppress(DatasetNotFound, NotReadable):
            return library.named(name)
    return None


def find_anywhere(library: Library, raw_path: str, folder: Path) -> tuple[Path, Dataset | Problem]:
    """Return the absolute path of `raw_path`, and the dataset found there or the Problem that there is none.

    Accesses the disk. A relative path begins in `folder`. A file that is listed only through a link elsewhere is not
    found.
    """
    path = absolute(raw_path, folder)
    problem: Problem | None = None
    for name in names(library, path):
        try:
            return path, library.named(name)
        except (DatasetNotFound, NotReadable) as reason:
            problem = problem or reason
    # A link that must not lead out counts as a file elsewhere, whether or not it leads to anything.
    if problem is None or not library.holds(Path(os.path.realpath(path))):
        return path, OutsideLibraries(str(path))
    if isinstance(problem, DatasetNotFound) and not path.name.endswith(SUFFIX):
        problem = DatasetNotFound(problem.which, detail=f"a dataset's name ends in {SUFFIX}")
    return path, problem


def expand_home(raw_path: str) -> str:
    """Return the path with the user's home in place of `~/`; other tildes stay, because a file may be called `~x`."""
    return os.path.expanduser(raw_path) if raw_path.startswith("~/") else raw_path


def absolute(raw_path: str, folder: Path) -> Path:
    """Return the absolute path without `..`, which leads up from the target of a link that stands before it."""
    parts = (folder / expand_home(raw_path)).parts[1:]
    up = max((n for n, part in enumerate(parts, 1) if part == ".."), default=0)
    return Path(os.path.realpath("/" + "/".join(parts[:up])), *parts[up:])


def names(library: Library, path: Path) -> Iterator[str]:
    """Yield the names of a file in the libraries: first by its path as it is, then by the path with links resolved.

    If one library lies inside another, the inner one lists the file.
    """
    yield from below(library.roots, path)
    roots = {name: Path(os.path.realpath(root)) for name, root in library.roots.items()}
    for reading in (path, Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path))):
        yield from below(roots, reading)


def below(roots: Mapping[str, Path], path: Path) -> Iterator[str]:
    """Yield the name of a path in each of these folders that it begins with, the innermost folder first."""
    for name, root in sorted(roots.items(), key=lambda each: -len(each[1].parts)):
        if path.is_relative_to(root):
            yield f"{name}/{path.relative_to(root)}"
