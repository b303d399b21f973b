"""Which dataset a file is: `api/find`, asked by a host's file browser and by the output of a notebook's cell."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from .disk import on_disk, place_of
from .errors import BadRequest, DatasetNotFound, NotReadable, OutsideLibraries, Problem
from .handlers import Handler
from .library import SUFFIX, Dataset, Library

ELSEWHERE = "find"  # the disk of a path that begins with no library
HOME = Path("~/cellxgene")  # where notebooks look for labels unless they are told


class Find(Handler):
    """The dataset that a file is, where it is shown, and whether it is open."""

    async def prepare(self) -> None:
        """An open tab asks every few seconds: that is use neither of the gateway nor of a viewer."""
        self.unlock()

    async def get(self) -> None:
        """The path as it was sent: tornado's own reading takes blanks and control characters away."""
        asked = os.fsdecode(self.request.query_arguments.get("path", [b""])[-1])
        if not asked or "\0" in asked:
            raise BadRequest(detail="it names no file: say which with `path`")
        dataset = await self._found(asked)
        instance = self.desk.instances.of(dataset.real)
        self.say(
            {
                "name": dataset.name,
                "title": dataset.label,
                # What is shown alone is listed by a link of ours, which goes with the gateway.
                "file": str(dataset.real if self.desk.alone else dataset.file),
                "view": f"view/{dataset.address}/",
                "labels": f"annotations/{dataset.address}",
                "home": self._home(),
                "share": self.desk.catalogue.share(dataset),
                "phase": instance.phase.value if instance else "closed",
                "running": instance is not None and not instance.over,
            }
        )

    def _home(self) -> str:
        """Where labels are, unless notebooks look there by themselves."""
        return "" if self.desk.home == HOME.expanduser() else str(self.desk.home)

    async def _found(self, asked: str) -> Dataset:
        library, folder = self.desk.library, self.desk.folder
        place = place_of(next(below(library.roots, folder / expanded(asked)), ELSEWHERE))
        near = await on_disk(lambda: looked_at(library, absolute(asked, folder)), place=place)
        if near is not None:
            return near
        # From here on the disks of other libraries are asked too: one that hangs must not be taken for this one.
        path, found = await on_disk(lambda: looked_up(library, asked, folder), place=ELSEWHERE)
        if isinstance(found, Dataset):
            return found
        listed = None if isinstance(found, NotReadable) else await self.desk.catalogue.listed(path, place=ELSEWHERE)
        if listed is None:
            raise self._outside(asked) if isinstance(found, OutsideLibraries) else found
        return listed

    def _outside(self, asked: str) -> OutsideLibraries:
        """What may be told of a file that is not ours to show: the path that was asked for, and the libraries."""
        path, library = Path(os.path.normpath(self.desk.folder / expanded(asked))), self.desk.library
        file = shlex.quote(str(path))
        if self.desk.alone:
            step = f"Give it a viewer of its own: `cxg-proxy {file}` at a terminal, or in Galaxy this tool once more."
            return OutsideLibraries(str(path), detail="one dataset is shown here, another one", steps=[step])
        shown = "; ".join(f"{name}: {folder}" for name, folder in library.roots.items())
        walking = "" if self.desk.catalogue.complete else "; they are still being looked through, try again in a minute"
        folder = shlex.quote(str(next(iter(library.roots.values()))))
        first = f"Move the file into one of these folders: `mv {file} {folder}/`."
        if library.follow_symlinks:
            first = f"{first[:-1]}, or put a link to it there: `ln -s {file} {folder}/`."
        elif any(path.is_relative_to(root) for root in library.roots.values()):
            first = (
                "A link on the way to it leads out of these folders, and is not followed: put the file itself there."
            )
        steps = [first, *OutsideLibraries.steps[1:]]
        return OutsideLibraries(str(path), detail=f"it shows {shown}{walking}", steps=steps)


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
