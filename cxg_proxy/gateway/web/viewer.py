"""The viewer at `view/<library>/<path.h5ad>/…`: the page of its opening, of its problem, or cellxgene itself."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado.web import HTTPError, stream_request_body

from cxg_proxy import errors, etags
from cxg_proxy.files.disk import on_disk
from cxg_proxy.gateway.library.dataset import Dataset, disk_of
from cxg_proxy.gateway.pages import models, render
from cxg_proxy.gateway.workers.command import ADDED_PREFIX, SCRIPTS
from cxg_proxy.gateway.workers.exchange import (
    SAFE_METHODS,
    STALL_SECONDS,
    refuse_odd_framing,
)
from cxg_proxy.gateway.workers.instance import Instance
from cxg_proxy.steps import Phase

from . import security
from .forwarding import Forwarding, client_of
from .handler import Handler
from .page_scripts import script, state

MAX_SECONDS = 86_400.0
_READING_METHODS = ("GET", "HEAD")
_DATA = "/api/v0."  # below a viewer's address, where its page requests data


@stream_request_body
class View(Handler):
    """One request to a viewer, whatever state that viewer is in."""

    async def prepare(self) -> None:
        """Decide who replies; an exchange with the worker begins here, so that the body can stream.

        A refusal waits until the body has been read (and dropped), because a client that is cut off while sending sees
        no reply.
        """
        self._forwarding: Forwarding | None = None
        self._refusal: errors.Problem | HTTPError | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._reading, self._answered = True, False
        client_of(self).set_body_timeout(MAX_SECONDS)  # for the whole body; a pause in it has a shorter limit
        try:
            await super().prepare()
            if not self._answered:
                await self._decide()
        except (errors.Problem, HTTPError) as problem:
            if security.announces_body(self.request.headers) and not security.worth_draining(self.request.headers):
                self._reading = False
                raise
            client_of(self).set_max_body_size(security.DRAIN_LIMIT)
            self._refusal = problem

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> asyncio.Future[None]:
        """Reply only after the whole request has been read: tornado would close a kept-alive connection otherwise."""
        if not self._reading:
            return super().finish(chunk)
        if chunk is not None:
            self.write(chunk)
        self._answered = True
        return asyncio.get_running_loop().create_future()

    async def _decide(self) -> None:
        refuse_odd_framing(str(self.request.method), self.request.headers)
        if self.request.method not in SAFE_METHODS:
            self._bound_body()
            security.refuse_other_sites(self.request.headers, token_seen=self.holds_token())
        address, rest = await self._split()
        if address is None:
            return
        if not self.request.path.startswith(f"/view/{address}/"):
            self.redirect(f"./{address.rpartition('/')[2]}/" + self._query())  # cellxgene's address ends in a slash
        elif rest.startswith(ADDED_PREFIX):
            await self._reply_addition(address, rest[len(ADDED_PREFIX) :])
        elif tag := rest and await _held_tag(self, address, f"/{rest}{self._query()}"):
            self._not_modified(tag)
        elif rest:
            instance = await self._running(address)
            self._refuse_old_pages(instance)
            await self._begin(instance, "/" + rest)
        else:
            await self._open(address)

    def wants_json(self) -> bool:
        """Whether the client is a program; cellxgene's script is one."""
        return "/api/v0." in self.request.path or super().wants_json()

    def holds_token(self) -> bool:
        """Whether the headers hold a token; unlike elsewhere, the body is no form but belongs to the worker."""
        token = self.request.headers.get("X-XSRFToken", "")
        return bool(security.bearer(self.request.headers)) or security.equal_secrets(self.services.xsrf, token)

    async def data_received(self, chunk: bytes) -> None:
        """Pass a piece of the body on to the worker, no faster than it reads."""
        self._rest()
        if self._forwarding is not None:
            await self._forwarding.send(chunk)
        self._stall = asyncio.get_running_loop().call_later(STALL_SECONDS, client_of(self).close)

    def _rest(self) -> None:
        if self._stall is not None:
            self._stall.cancel()

    async def reply(self) -> None:
        """Pass the worker's reply on, now that the request's body is complete."""
        self._rest()
        self._reading = False
        if self._refusal is not None:
            raise self._refusal
        if self._answered:
            self.finish()
            return
        if self._forwarding is not None:
            await self._forwarding.reply()

    get = head = post = put = options = delete = patch = reply

    def on_connection_close(self) -> None:
        """Cancel the exchange, because the client has gone."""
        super().on_connection_close()
        self._rest()
        if self._forwarding is not None:
            self._forwarding.cancel()

    # --- who replies ------------------------------------------------------------------------------------------

    async def _split(self) -> tuple[str | None, str]:
        """Return the dataset's address and the rest; (None, "") if the viewer's own logo is being sent."""
        tail = self.request.path[len("/view/") :]
        address = self.services.instances.addressed(tail)
        if address is not None:
            return address, tail[len(address) + 1 :]
        try:
            address, rest = await on_disk(lambda: self.services.library.split(tail), place=disk_of(tail))
        except errors.DatasetNotFound:
            # cellxgene requests its logo at `../static/…`, one level above its own address.
            folder, static, asset = tail.partition("/static/")
            neighbour = self.services.instances.ready_in(folder) if static else None
            if neighbour is None:
                raise
            await self._begin(neighbour, static + asset)
            return None, ""
        return address, rest

    async def _open(self, address: str) -> None:
        """Reply at the viewer's own address: with cellxgene if it is ready, else with the progress of its opening."""
        if self.request.method not in ("GET", "HEAD"):
            raise HTTPError(405)
        self.refuse_foreign_starts()
        dataset = await self.dataset(address)
        if dataset.address != address:  # typed by a person; all further requests must use one address
            self.redirect(f"{self.root}view/{dataset.address}/" + self._query())
            return
        if self.request.method == "HEAD":  # a HEAD request starts nothing
            return
        try:
            instance = await self.services.instances.open(dataset)
        except errors.TooManyInstances as problem:
            self.show(problem, name=dataset.name, href=f"view/{address}/")
            return
        if instance.problem is not None:
            self.show(instance.problem, name=dataset.name, instance=instance.id)
        elif instance.phase is Phase.READY:
            await self._begin(instance, "/")
        else:
            view = opening(dataset, instance, self.services.catalogue.card_of(dataset))
            self.finish(render.opening(self.site(self.root), view))

    async def _running(self, address: str) -> Instance:
        """Return the ready instance for a request of an open viewer; one that was closed meanwhile is opened again.

        This way, a label set after a long pause is saved and not refused. A failed instance stays failed.
        """
        existing = self.services.instances.at(address)
        if existing is not None and existing.phase is Phase.READY:
            return existing
        self.refuse_foreign_starts()
        dataset = await self.dataset(address)
        instance = await self.services.instances.open(dataset)
        instance.exchanges += 1  # a request that waits for it counts as use
        try:
            await instance.ready()
        finally:
            instance.exchanges -= 1
        return instance

    def _refuse_old_pages(self, instance: Instance) -> None:
        """Raise Replaced for a page of a file that was replaced: its labels would land on other cells."""
        if self.request.headers.get("X-Dataset-Version") not in (None, instance.dataset.version):
            raise errors.Replaced(instance.dataset.label)

    async def _reply_addition(self, address: str, name: str) -> None:
        """Reply with what the gateway adds to the viewer: its scripts, and the state that they request."""
        if name not in (*SCRIPTS, "state"):
            raise errors.NoSuchPage(self.request.path)
        dataset = await self.dataset(address)
        if name in SCRIPTS:
            self.set_header("Content-Type", "text/javascript; charset=utf-8")
            self.set_header("Cache-Control", "no-cache")
            self.finish(script(name, self.services, dataset))
        else:
            offer = not self.services.read_only and await self.services.recognition.offered(dataset)
            self.reply_json({**state(self.services, dataset, self.root), "offer": offer})

    def _not_modified(self, tag: str) -> None:
        self.set_status(304)
        for name, value in etags.not_modified(tag):
            self.set_header(name, value)
        self.finish()

    def _bound_body(self) -> None:
        length = security.declared_length(self.request.headers)
        if length is None or length > self.services.max_body:
            raise errors.TooLarge(detail=f"{self.services.max_body / 1e6:.0f} MB")
        client_of(self).set_max_body_size(self.services.max_body)

    async def _begin(self, instance: Instance, path: str) -> None:
        """Begin the exchange with the worker; `reply` passes its reply on when the request's body is complete."""
        self._forwarding = Forwarding(self, instance, path + self._query())
        try:
            await self._forwarding.begin()
        except errors.Problem:
            self._forwarding = None
            raise

    def _query(self) -> str:
        """Return the query without the host's token, which a link from Binder holds and no worker may see."""
        words = [word for word in self.request.query.split("&") if word and not word.startswith("token=")]
        return f"?{'&'.join(words)}" if words else ""


def opening(dataset: Dataset, instance: Instance, card: models.DatasetCard) -> models.OpeningView:
    """Return what the opening page shows of a dataset's instance; the picture is that of the card."""
    return models.OpeningView(
        name=dataset.name,
        label=dataset.label,
        instance=instance.id,
        phase=instance.phase.value,
        done=instance.done,
        elapsed=instance.elapsed,
        expected=instance.expected,
        progress=f"api/progress/{dataset.address}",
        preview=card.preview,
        file=dataset.path,
    )


async def _held_tag(handler: Handler, address: str, target: str) -> str | None:
    """Return the tag that the request holds and that its reply would have now; None if the worker must reply.

    `target` is the path below the viewer's address, with the query. Raises what any request raises for a dataset that
    is missing, or not for this user.
    """
    request = handler.request
    tags, accept = request.headers.get("If-None-Match"), request.headers.get("Accept", "")
    if tags is None or request.method not in _READING_METHODS or not target.startswith(_DATA) or not target.isascii():
        return None
    current_state = await _state_of(handler, address)
    tag = etags.tag(current_state, target, accept) if current_state else ""
    return tag if tag and etags.holds(tags, tag) else None


async def _state_of(handler: Handler, address: str) -> str:
    """Return the state of the dataset that replies depend on now, "" if unknown or not the one that the page shows."""
    instances = handler.services.instances
    instance = instances.at(address)
    if instance is not None and instance.phase is Phase.READY:
        dataset, current_state = instance.dataset, instance.state
        instance.touch()  # a page that is loaded again is being looked at
    elif instance is not None and instance.over:
        return ""  # it failed, which the reply must show
    else:
        handler.refuse_foreign_starts()
        dataset = await handler.dataset(address)
        current_state = await on_disk(lambda: instances.state_of(dataset), place=disk_of(address))
    shown = handler.request.headers.get("X-Dataset-Version", dataset.version)
    return current_state if shown == dataset.version else ""
