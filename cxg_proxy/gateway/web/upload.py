"""The upload of a table of labels from a user's own disk: received, checked and shown before anything is saved."""

from __future__ import annotations

import asyncio
import contextlib

from tornado.http1connection import HTTP1Connection
from tornado.web import stream_request_body

from cxg_proxy import errors, formatting
from cxg_proxy.annotations import display_name
from cxg_proxy.files.disk import disk_thread

from . import security
from .annotations import AnnotationsHandler
from .form import Form

MAX_BYTES = 256_000_000  # of a form with a table in it
MAX_SECONDS = 3600.0
_TABLE = "table.csv"

_leaving: set[asyncio.Task[None]] = set()


@stream_request_body
class LabelsUpload(AnnotationsHandler):
    """Writes the table to the disk as it arrives: neither it nor its form is ever in memory as a whole."""

    _form: Form | None = None
    _refusal: Exception | None = None

    async def prepare(self) -> None:
        """Check whether the request may be large.

        A refusal waits for the body, because a client that is cut off while sending sees no reply.
        """
        self._block = contextlib.AsyncExitStack()  # of the folder, which stays until the upload is saved or cancelled
        self._stream = contextlib.AsyncExitStack()  # of what receives the form
        try:
            await super().prepare()
            if self.request.method == "POST" and not self._finished:
                await self._let_in()
        except errors.Problem as problem:
            if not security.worth_draining(self.request.headers):
                raise
            self._client().set_max_body_size(security.DRAIN_LIMIT)
            self._refusal = problem

    async def _let_in(self) -> None:
        security.refuse_other_sites(self.request.headers, token_seen=bool(security.bearer(self.request.headers)))
        self.refuse_changes()
        length = security.declared_length(self.request.headers)
        if length is None or length > MAX_BYTES:
            raise errors.TooLarge(detail=f"{formatting.size(MAX_BYTES)} is the most")
        self._client().set_max_body_size(MAX_BYTES)
        self._client().set_body_timeout(MAX_SECONDS)
        self._folder = await self._block.enter_async_context(self.services.jobs.folder())
        self._call = await self._stream.enter_async_context(disk_thread())
        form = Form(self.request.headers.get("Content-Type", ""), "table", self._folder / _TABLE)
        self._stream.push_async_callback(self._call, form.close)
        self._form = form

    async def data_received(self, chunk: bytes) -> None:
        """Read a piece of the form, or drop it if the form is refused."""
        form = self._form
        if form is None or self._refusal is not None:
            return
        try:
            await self._call(lambda: form.feed(chunk))
        except (OSError, errors.Problem) as reason:
            self._refusal = reason if isinstance(reason, errors.Problem) else _full(reason)
        self.services.touched()

    async def post(self, address: str) -> None:
        """Check the table, and redirect to the page that shows how it fits."""
        if self._refusal is not None or self._form is None:
            raise self._refusal or errors.NothingChosen()
        dataset = await self.dataset(address)
        try:
            await self._call(self._form.finish)
        except OSError as reason:
            raise _full(reason) from reason
        if not security.bearer(self.request.headers) and not self._holds(self._form.fields.get("_xsrf", "")):
            raise errors.Refused(detail=security.UNKNOWN_FORM)
        name, labels = display_name(self._form.filename) or "The table", self.services.labels(dataset)
        upload = await self.services.uploads.take(dataset, labels, self._folder / _TABLE, name, self._block.pop_all())
        self.back(dataset, upload=upload.id)

    async def get(self, address: str) -> None:
        """Change nothing; lead a person who reloads to where a table can be chosen."""
        self.redirect(f"{self.root}annotations/{(await self.dataset(address)).address}")

    def _holds(self, said: str) -> bool:
        return security.equal_secrets(self.services.xsrf, self.request.headers.get("X-XSRFToken", "") or said)

    def _client(self) -> HTTP1Connection:
        assert isinstance(self.request.connection, HTTP1Connection)
        return self.request.connection

    def on_finish(self) -> None:
        """Remove everything but the upload that waits to be saved."""
        self._leave()

    def on_connection_close(self) -> None:
        """Clean up, because the sender has gone."""
        super().on_connection_close()
        self._leave()

    def _leave(self) -> None:
        leaving = asyncio.ensure_future(_close(self._stream.pop_all(), self._block.pop_all()))
        _leaving.add(leaving)
        leaving.add_done_callback(_leaving.discard)


async def _close(stream: contextlib.AsyncExitStack, block: contextlib.AsyncExitStack) -> None:
    with contextlib.suppress(OSError, errors.Problem):  # a full disk, say, which does not matter any more
        await stream.aclose()
    await block.aclose()


def _full(reason: OSError) -> errors.Problem:
    return errors.NotPrepared(detail=reason.strerror or str(reason))
