"""Our own addresses: the list, what runs, progress, pictures, probes. The viewer's are in `view`."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from tornado.web import HTTPError, StaticFileHandler

from cxg_proxy import __version__, errors
from cxg_proxy.errors import BadRequest, NotReadable, OutsideLibraries
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.library import Dataset, escape, only, place_of, readings
from cxg_proxy.gateway.library.paths import ELSEWHERE, absolute, below, expanded, looked_at, looked_up
from cxg_proxy.gateway.pages import render, thumbnail
from cxg_proxy.gateway.workers.instance import Instance
from cxg_proxy.gateway.workers.process import within
from cxg_proxy.gateway.workers.usage import memory, usage
from cxg_proxy.steps import Phase

from . import security
from .handler import Handler, plain, row

HOME = Path("~/cellxgene")  # where notebooks look for labels unless they are told

BEAT_SECONDS = 15.0  # an event stream that is silent for longer is cut by some proxies

LAST = {Phase.READY.value, Phase.FAILED.value, Phase.CLOSED.value}


class LibraryPage(Handler):
    """The list of datasets, as a page and as JSON."""

    async def get(self) -> None:
        """Search, sort and page are in the query, so that a list can be linked."""
        if self.desk.alone and not self.wants_json():
            await self._lead_to_the_viewer()
            return
        self.desk.preload.touch()
        await self.desk.catalogue.refresh()
        page = self.get_query_argument("page", "1")
        view = self.desk.catalogue.view(
            query=self.get_query_argument("q", "").strip(),
            folder=readings(self.get_query_argument("folder", ""))[0],
            sort=self.get_query_argument("sort", "name"),
            page=int(page) if page.isascii() and page.isdigit() else 1,
        )
        if self.wants_json():
            self.say(view)
        else:
            self.finish(render.library(self.site(self.root), view))

    head = get

    async def _lead_to_the_viewer(self) -> None:
        """One dataset that is shown alone has no list: what is wrong with it is said at its own address."""
        name = await on_disk(lambda: only(self.desk.library.roots))
        self.redirect(f"./view/{escape(name)}/")


class InstancesPage(Handler):
    """What runs."""

    async def get(self) -> None:
        """Each instance with what it uses."""
        rows = [row(each, self.desk.memory_limit) for each in self.desk.instances]
        if self.wants_json():
            self.say({"instances": rows})
            return
        total, available = memory()
        self.finish(render.instances(self.site(self.root), rows, render.Machine(total, available, os.cpu_count() or 1)))

    head = get


class InstanceAction(Handler):
    """Stop an instance, or try a failed one again."""

    async def post(self, identifier: str, action: str) -> None:
        """POST with the token of the form; back to `next`, or to the viewer."""
        security.refuse_other_sites(self.request.headers, token_seen=self.holds_token())
        if not self.holds_token():
            raise errors.Refused(detail="its form has no token, or that of an earlier run")
        instance = self.desk.instances.find(identifier)
        if instance is None and (self.wants_json() or action == "retry"):
            raise errors.NoSuchInstance
        if instance is not None and action == "stop":
            await instance.close()
        elif instance is not None:
            await self._retry(instance)
            return
        self._done(instance, self.form("next").lstrip("./"))

    async def get(self, identifier: str, action: str) -> None:  # noqa: ARG002 - tornado passes both
        """Nothing changes by GET; a person who reloads the page of a refused form is led to where it can be sent."""
        if self.wants_json():
            raise HTTPError(405)
        instance = self.desk.instances.find(identifier)
        self.redirect(f"../../../view/{instance.dataset.address}/" if instance else "../../../instances")

    async def _retry(self, instance: Instance) -> None:
        address = instance.dataset.address
        dataset = await on_disk(lambda: self.desk.library.find(address), place=place_of(address))
        try:
            self._done(await self.desk.instances.open(dataset, again=True), f"view/{address}/")
        except errors.TooManyInstances as problem:
            self.show(problem, name=dataset.name, href=f"view/{address}/")

    def _done(self, instance: Instance | None, target: str) -> None:
        if self.wants_json():
            self.say(row(instance, self.desk.memory_limit) if instance else {})
        else:
            self.redirect("../../../" + _inside(target), status=303)

    def wants_json(self) -> bool:
        """Whether the reply goes to a program; a form's goes to a person."""
        return "text/html" not in self.request.headers.get("Accept", "")


class Progress(Handler):
    """How far the opening of a dataset is: once as JSON, or as a stream of events."""

    gone = False

    def on_connection_close(self) -> None:
        """Nobody listens any more."""
        super().on_connection_close()
        self.gone = True

    async def get(self, address: str) -> None:
        """The stream ends when the viewer is ready, failed or closed."""
        dataset = await on_disk(lambda: self.desk.library.find(address), place=place_of(address))
        instance = self.desk.instances.of(dataset.real)
        if instance is None:
            raise errors.Stopped(dataset.label)
        if "text/event-stream" not in self.request.headers.get("Accept", ""):
            self.say(_progress(instance))
            return
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("X-Accel-Buffering", "no")
        while not self.gone:
            change, said = instance.next_change, _progress(instance)
            self.write(f"data: {json.dumps(said, default=plain)}\n\n")
            await self.flush()
            if said["phase"] in LAST:
                return
            instance.touch()  # somebody looks
            self.desk.touched()
            await within(BEAT_SECONDS, change)


class Preview(Handler):
    """The small picture of a dataset's embedding."""

    async def get(self, address: str) -> None:
        """SVG, revalidated by the file's fingerprint."""
        dataset = await on_disk(lambda: self.desk.library.find(address), place=place_of(address))
        points = await self.desk.summaries.preview(dataset)
        if points is None:
            raise errors.NoSuchPage(self.request.path)
        self.set_header("Content-Type", "image/svg+xml; charset=utf-8")
        self.set_header("Cache-Control", "private, no-cache")
        self.finish(thumbnail.draw(points))


class Health(Handler):
    """For probes; needs no token and tells nothing."""

    def unlock(self) -> None:
        """A probe has no token."""

    async def prepare(self) -> None:
        """A probe is no use of the gateway."""

    def get(self) -> None:
        """Replies if the gateway is alive."""
        self.say({"status": "ok", "version": __version__})

    head = get


class Metrics(Handler):
    """Prometheus text."""

    async def prepare(self) -> None:
        """A scrape is no use of the gateway."""
        self.unlock()

    def get(self) -> None:
        """Instances by phase, their memory, and the datasets found."""
        phases: dict[str, int] = {}
        for each in self.desk.instances:
            phases[each.phase.value] = phases.get(each.phase.value, 0) + 1
        used = sum(found.memory for each in self.desk.instances if each.pid and (found := usage(each.pid)))
        lines = ["# TYPE cxg_proxy_instances gauge"]
        lines += [f'cxg_proxy_instances{{phase="{phase}"}} {count}' for phase, count in sorted(phases.items())]
        lines += ["# TYPE cxg_proxy_memory_bytes gauge", f"cxg_proxy_memory_bytes {used}"]
        lines += ["# TYPE cxg_proxy_datasets gauge", f"cxg_proxy_datasets {self.desk.catalogue.count}"]
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish("\n".join(lines) + "\n")


class Static(StaticFileHandler):
    """Our stylesheet, script and pictures; the same for everybody, so no token is asked."""

    def set_default_headers(self) -> None:
        """On errors too."""
        self.clear_header("Server")
        for name, value in security.HEADERS.items():
            self.set_header(name, value)

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's signature
        """Revalidated, so that an upgrade shows at once."""
        self.set_header("Cache-Control", "no-cache")


class NotFound(Handler):
    """Every other address."""

    async def prepare(self) -> None:
        """Say so for any method."""
        self.unlock()
        raise errors.NoSuchPage(self.request.path)


def _progress(instance: Instance) -> dict[str, object]:
    return {
        "phase": instance.phase.value,
        "done": instance.done,
        "elapsed": round(instance.elapsed, 1),
        "expected": instance.expected,
        "problem": instance.problem,
    }


def _inside(target: str) -> str:
    """A link that cannot lead away from the gateway."""
    return target if target.isascii() and ":" not in target and "//" not in target and "\\" not in target else ""


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
