"""The library as a list of datasets, with their pictures, and the search for the dataset that a file is."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from cxg_proxy import errors
from cxg_proxy.errors import BadRequest, NotReadable, OutsideLibraries
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset, disk_of, escape, possible_names
from cxg_proxy.gateway.library.library import only_dataset
from cxg_proxy.gateway.library.paths import ELSEWHERE, absolute, below, expand_home, find_anywhere, find_near
from cxg_proxy.gateway.pages import render, thumbnail

from .handler import Handler

HOME = Path("~/cellxgene")  # where notebooks look for labels by default


class LibraryPage(Handler):
    """The list of datasets, as a page and as JSON."""

    async def get(self) -> None:
        """Show the list; search, order and page are in the query, so that a list can be linked."""
        if self.services.alone and not self.wants_json():
            await self._lead_to_the_viewer()
            return
        self.services.fork_server.touch()
        await self.services.catalogue.refresh()
        page = self.get_query_argument("page", "1")
        view = self.services.catalogue.view(
            query=self.get_query_argument("q", "").strip(),
            folder=possible_names(self.get_query_argument("folder", ""))[0],
            sort=self.get_query_argument("sort", "name"),
            page=int(page) if page.isascii() and page.isdigit() else 1,
        )
        if self.wants_json():
            self.reply_json(view)
        else:
            self.finish(render.library(self.site(self.root), view))

    head = get

    async def _lead_to_the_viewer(self) -> None:
        """Redirect to the dataset that is shown alone: its problems, if any, are shown at its own address."""
        name = await on_disk(lambda: only_dataset(self.services.library.roots))
        self.redirect(f"./view/{escape(name)}/")


class Preview(Handler):
    """The small picture of a dataset's embedding."""

    async def get(self, address: str) -> None:
        """Send the picture as SVG; the browser revalidates it each time."""
        dataset = await self.dataset(address)
        points = await self.services.summaries.preview(dataset)
        if points is None:
            raise errors.NoSuchPage(self.request.path)
        self.set_header("Content-Type", "image/svg+xml; charset=utf-8")
        self.set_header("Cache-Control", "private, no-cache")
        self.finish(thumbnail.draw(points))


class Find(Handler):
    """The dataset that a file is, where it is shown, and whether it is open; file browsers and notebooks request it."""

    async def prepare(self) -> None:
        """Check access only: an open tab asks every few seconds, which does not count as use of gateway or viewer."""
        self.unlock()

    async def get(self) -> None:
        """Find the path exactly as it was sent: tornado's own parsing removes blanks and control characters."""
        raw_path = os.fsdecode(self.request.query_arguments.get("path", [b""])[-1])
        if not raw_path or "\0" in raw_path:
            raise BadRequest(detail="it names no file: say which with `path`")
        dataset = await self._find(raw_path)
        instance = self.services.instances.of(dataset.real)
        self.reply_json(
            {
                "name": dataset.name,
                "title": dataset.label,
                # A dataset that is shown alone is listed through a link that ends with the gateway.
                "file": str(dataset.real if self.services.alone else dataset.file),
                "view": f"view/{dataset.address}/",
                "labels": f"annotations/{dataset.address}",
                "home": self._home(),
                "share": self.services.catalogue.share(dataset),
                "phase": instance.phase.value if instance else "closed",
                "running": instance is not None and not instance.over,
            }
        )

    def _home(self) -> str:
        """Return the folder of labels, or "" if notebooks look there by default."""
        return "" if self.services.home == HOME.expanduser() else str(self.services.home)

    async def _find(self, raw_path: str) -> Dataset:
        library, folder = self.services.library, self.services.folder
        place = disk_of(next(below(library.roots, folder / expand_home(raw_path)), ELSEWHERE))
        near = await on_disk(lambda: find_near(library, absolute(raw_path, folder)), place=place)
        if near is not None:
            return near
        # From here on the disks of other libraries are accessed too; one that hangs must not count as this one.
        path, result = await on_disk(lambda: find_anywhere(library, raw_path, folder), place=ELSEWHERE)
        if isinstance(result, Dataset):
            return result
        listed = (
            None if isinstance(result, NotReadable) else await self.services.catalogue.listed(path, place=ELSEWHERE)
        )
        if listed is None:
            raise self._outside(raw_path) if isinstance(result, OutsideLibraries) else result
        return listed

    def _outside(self, raw_path: str) -> OutsideLibraries:
        """Return the problem of a file that is in no library; it names only the requested path and the libraries."""
        path, library = Path(os.path.normpath(self.services.folder / expand_home(raw_path))), self.services.library
        file = shlex.quote(str(path))
        if self.services.alone:
            step = f"Give it a viewer of its own: `cxg-proxy {file}` at a terminal, or in Galaxy this tool once more."
            return OutsideLibraries(str(path), detail="one dataset is shown here, another one", steps=[step])
        shown = "; ".join(f"{name}: {folder}" for name, folder in library.roots.items())
        walking = (
            "" if self.services.catalogue.complete else "; they are still being looked through, try again in a minute"
        )
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
