"""The annotations of a dataset: the page at `annotations/<library>/<path.h5ad>`, with its changes and downloads."""

import asyncio
import contextlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlencode

from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from cxg_proxy import annotations, errors
from cxg_proxy.files.disk import disk_thread, on_disk
from cxg_proxy.gateway.labels import timeline
from cxg_proxy.gateway.labels.models import LabelsView, UploadView
from cxg_proxy.gateway.labels.outbox import Outgoing
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.pages import render
from cxg_proxy.gateway.workers.exchange import STALL_SECONDS

from .handler import Handler

PIECE = 1 << 20
HANDED_ON = 100_000_000  # bytes: jupyter-server-proxy passes on no larger reply
SAVE_SECONDS = 30.0  # longer than a save waits for another server that saves to the same folder
SAID = ("restored", "adopted", "uploaded", "sent")
KINDS = {annotations.LABELS: "cell labels", annotations.GENE_SETS: "gene sets"}

Result = TypeVar("Result")


class AnnotationsHandler(Handler):
    """The base class of the handlers for a dataset's labels."""

    async def at_home(self, function: Callable[[], Result]) -> Result:
        """Call `function`, which accesses the folder of labels; raises StorageSilent."""
        return await on_disk(function, place="labels", patience=SAVE_SECONDS)

    def wants_json(self) -> bool:
        """Whether the reply goes to a program; people get files and send forms below `/api` too."""
        return "text/html" not in self.request.headers.get("Accept", "") and super().wants_json()

    def refuse_changes(self) -> None:
        """Raise ReadOnly if this gateway saves nothing."""
        if self.services.read_only:
            raise errors.ReadOnly

    def back(self, dataset: Dataset, **query: Any) -> None:
        """Redirect to the page of the dataset's labels, or send its address as JSON to a program."""
        if self.wants_json():
            self.reply_json({"page": f"annotations/{dataset.address}", **query})
            return
        where = f"{self.root}annotations/{dataset.address}"
        self.redirect(where + (f"?{urlencode(query)}" if query else ""), status=303)


class LabelsPage(AnnotationsHandler):
    """The page of the versions, and of the content of one of them."""

    async def get(self, address: str) -> None:
        """Show the current labels, those of `?version=`, or a table that waits to be saved (`?upload=`)."""
        dataset = await self.dataset(address)
        if self.get_query_argument("upload", ""):
            self._show_upload(dataset)
            return
        where, version = self.services.labels(dataset), self.get_query_argument("version", "")
        state = await self.at_home(lambda: timeline.read_state(where, version))
        waiting = self.services.uploads.of(dataset.address)
        page = f"annotations/{dataset.address}"
        view = LabelsView(
            name=dataset.name,
            label=dataset.label,
            href=f"view/{dataset.address}/",
            page=page,
            api=f"api/{page}",
            shown=state.shown,
            days=state.days,
            older=state.older,
            versions=state.versions,
            saved=state.saved,
            there=dataset.exists,
            large=dataset.bytes > HANDED_ON,
            fit=await self.services.recognition.fit(dataset),
            offers=await self.services.recognition.offers(dataset),
            looking=self.services.recognition.looking(dataset),
            said=said if (said := self.get_query_argument("said", "")) in SAID else "",
            of=_time(self.get_query_argument("of", "")),
            waiting=f"{page}?upload={waiting.id}" if waiting else "",
            sender=self.services.outbox.name if self.services.outbox else "",
            sent=self.services.outbox.last(dataset.address) if self.services.outbox else None,
        )
        if self.wants_json():
            self.reply_json(view)
        else:
            self.finish(render.labels(self.site(self.root), view))

    head = get

    def _show_upload(self, dataset: Dataset) -> None:
        upload = self.services.uploads.find(dataset.address, self.get_query_argument("upload"))
        page = f"annotations/{dataset.address}"
        view = UploadView(
            name=dataset.name,
            label=dataset.label,
            page=page,
            api=f"api/{page}",
            id=upload.id,
            file=upload.name,
            checked=upload.checked,
        )
        if self.wants_json():
            self.reply_json(view)
        else:
            self.finish(render.upload(self.site(self.root), view))


class LabelsFile(AnnotationsHandler):
    """The labels or the gene sets as their CSV file."""

    async def get(self, address: str, kind: str) -> None:
        """Send the current file, or that of `?version=`."""
        dataset = await self.dataset(address)
        where, version = self.services.labels(dataset), self.get_query_argument("version", "")
        content = await self.at_home(lambda: timeline.content_of(where, kind, version))
        if content is None:
            raise errors.NothingSaved(dataset.label)
        attach(self, f"{dataset.label}-{kind}.csv", "text/csv; charset=utf-8")
        self.finish(content)

    head = get


class AnnotatedFile(AnnotationsHandler):
    """A copy of the dataset with the labels in it, made while a client waits for it."""

    _task: asyncio.Task[None] | None = None

    async def get(self, address: str) -> None:
        """Stream the copy from a file that has no name any more."""
        self.refuse_foreign_starts()
        self._task = asyncio.ensure_future(self._send(await self.dataset(address)))
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _send(self, dataset: Dataset) -> None:
        async with self.services.jobs.annotated(dataset, self.services.labels(dataset)) as file, disk_thread() as call:
            attach(self, f"{dataset.label}-annotated.h5ad", "application/x-hdf5")
            self.set_header("Content-Length", str(await call(lambda: _size(file))))
            try:
                while piece := await call(lambda: file.read(PIECE), patience=None):
                    self.write(piece)
                    await asyncio.wait_for(self.flush(), STALL_SECONDS)
                    self.services.touched()
            except (StreamClosedError, asyncio.TimeoutError):  # the client has gone, or makes others wait
                assert isinstance(self.request.connection, HTTP1Connection)
                self.request.connection.close()

    def on_connection_close(self) -> None:
        """End the child that makes the file, because its client has gone."""
        super().on_connection_close()
        if self._task is not None:
            self._task.cancel()


class LabelsChange(AnnotationsHandler):
    """A change of labels: restore a version, adopt other labels, save or cancel an upload, or send to the history."""

    async def post(self, address: str, action: str) -> None:
        """Make the change; the request must hold the token of the form."""
        self.require_token()
        if action != "send":
            self.refuse_changes()
        dataset = await self.dataset(address)
        await getattr(self, f"_{action}")(dataset, self.services.labels(dataset))

    async def get(self, address: str, action: str) -> None:  # noqa: ARG002 - tornado passes both
        """Change nothing; lead a person who reloads the page of a refused form to where it can be sent."""
        if self.wants_json():
            raise HTTPError(405)
        self.redirect(f"{self.root}annotations/{(await self.dataset(address)).address}")

    async def _restore(self, dataset: Dataset, where: Path) -> None:
        version, limit = self.form("version"), self.services.history_limit
        time = next(
            (each.time for each in await self.at_home(lambda: annotations.versions(where)) if each.id == version), None
        )
        try:
            await self.at_home(lambda: annotations.restore(where, version, history_limit=limit))
        except annotations.NoSuchVersion as reason:
            raise errors.NoSuchVersion(dataset.label) from reason
        self.back(dataset, said="restored", of=time)

    async def _adopt(self, dataset: Dataset, where: Path) -> None:
        recognition, name, limit = self.services.recognition, self.form("folder"), self.services.history_limit
        identifiers = recognition.identifiers(dataset) or ""
        record, columns = recognition.record(dataset), recognition.columns(dataset)

        def adopt() -> None:
            other = timeline.offered(recognition.home, identifiers, name, excluding=where)
            annotations.adopt(where, other, excluding=columns, record=record, history_limit=limit)

        await self.at_home(adopt)
        self.back(dataset, said="adopted")

    async def _save(self, dataset: Dataset, where: Path) -> None:
        upload = self.services.uploads.find(dataset.address, self.form("upload"))
        if upload.version != dataset.version:  # the check showed how the table fits other cells
            raise errors.Replaced(dataset.label, steps=["Upload the table again."])
        record, limit = self.services.recognition.record(dataset), self.services.history_limit

        def save() -> None:
            content = upload.table.read_bytes()
            seen = annotations.SeenState()  # it has seen nothing, so whatever the table does not have is kept
            annotations.write(
                where, annotations.LABELS, content, seen=seen, origin="uploaded", record=record, history_limit=limit
            )

        await self.at_home(save)
        await self.services.uploads.forget()
        self.back(dataset, said="uploaded")

    async def _send(self, dataset: Dataset, where: Path) -> None:
        """Send what is saved now to the host's history too."""
        if self.services.outbox is None:
            raise errors.NoSuchPage(self.request.path)
        contents = [(name, await self.at_home(partial(annotations.read, where, name))) for name in KINDS]
        files = [Outgoing(f"{dataset.label}: {KINDS[name]}", content) for name, content in contents if content]
        if not files:
            raise errors.NothingSaved(dataset.label)
        sent = await self.services.outbox.send(dataset.address, files)
        self.back(dataset, said="sent", **({"names": sent.names} if self.wants_json() else {}))

    async def _cancel(self, dataset: Dataset, where: Path) -> None:  # noqa: ARG002 - same signature as the others
        self.services.uploads.find(dataset.address, self.form("upload"))
        await self.services.uploads.forget()
        self.back(dataset)


def attach(handler: Handler, name: str, kind: str) -> None:
    """Let the browser save the reply as a file of this name, whatever letters are in it (RFC 6266)."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_. ") else "_" for letter in name)
    exact = quote(name.encode(errors="replace"), safe="")
    handler.set_header("Content-Type", kind)
    handler.set_header("Content-Disposition", f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")


def _size(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _time(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
