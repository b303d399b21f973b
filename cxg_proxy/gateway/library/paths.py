"""Which dataset a file is: `api/find`, asked by a host's file browser and by the output of a notebook's cell."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cxg_proxy.errors import DatasetNotFound, NotReadable, OutsideLibraries, Problem

from .dataset import SUFFIX, Dataset
from .library import Library

ELSEWHERE = "find"  # the disk of a path that begins with no library


def looked_at(library: Library, path: Path) -> Dataset | None:
    """The dataset at a path that begins with a library; no other disk is asked."""
    for name in below(library.roots, path):
        with contextlib.suppress(DatasetNotFound, NotReadable):
            return library.named(name)
    return None


def looked_up(library: Library, asked: str, folder: Path) -> tuple[Path, Dataset | Problem]:
    """The path that was asked for, and the dataset that is found by its place, or why there is none.

    Looks at the disk. A relative path begins in `folder`. A file that is listed by a link elsewhere is not found here.
    """
    path = absolute(asked, folder)
    problem: Problem | None = None
    for name in names(library, path):
        try:
            return path, library.named(name)
        except (DatasetNotFound, NotReadable) as reason:
            problem = problem or reason
    # A link that may not lead out is like a file elsewhere, whether something is there or not.
    if problem is None or not library.holds(Path(os.path.realpath(path))):
        return path, OutsideLibraries(str(path))
    if isinstance(problem, DatasetNotFound) and not path.name.endswith(SUFFIX):
        problem = DatasetNotFound(problem.which, detail=f"a dataset's name ends in {SUFFIX}")
    return path, problem


def expanded(asked: str) -> str:
    """The path with the person's home in the place of `~/`; a file may well be called `~x`."""
    return os.path.expanduser(asked) if asked.startswith("~/") else asked


def absolute(asked: str, folder: Path) -> Path:
    """The path from the root, without `..`: that leads up from where a link before it leads to."""
    parts = (folder / expanded(asked)).parts[1:]
    up = max((n for n, part in enumerate(parts, 1) if part == ".."), default=0)
    return Path(os.path.realpath("/" + "/".join(parts[:up])), *parts[up:])


def names(library: Library, path: Path) -> Iterator[str]:
    """What a file is called in the libraries, by its path as it is, then without the links on the way to it.

    Of two libraries, one in the other, the inner one lists it.
    """
    yield from below(library.roots, path)
    roots = {name: Path(os.path.realpath(root)) for name, root in library.roots.items()}
    for reading in (path, Path(os.path.realpath(path.parent), path.name), Path(os.path.realpath(path))):
        yield from below(roots, reading)


def below(roots: Mapping[str, Path], path: Path) -> Iterator[str]:
    """What a path is called in each of these folders that it begins with, the innermost first."""
    for name, root in sorted(roots.items(), key=lambda each: -len(each[1].parts)):
        if path.is_relative_to(root):
            yield f"{name}/{path.relative_to(root)}"
