"""The forwarding of one request to a worker: its body goes to the worker, and the worker's reply to the browser."""

from __future__ import annotations

import asyncio

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError

from cxg_proxy import errors
from cxg_proxy.gateway.workers.exchange import STALL_SECONDS, Exchange, WorkerGone, for_worker
from cxg_proxy.gateway.workers.instance import Instance

from .handler import Handler


def client_of(handler: Handler) -> HTTP1Connection:
    """Return the connection to the browser, or to the proxy in front of it."""
    assert isinstance(handler.request.connection, HTTP1Connection)
    return handler.request.connection


class Forwarding:
    """The exchange with one instance's worker for one request; the instance is in use until `release`."""

    def __init__(self, handler: Handler, instance: Instance, target: str) -> None:
        self._handler, self._instance, self._target = handler, instance, target
        self._exchange = Exchange(instance.connections, self._head, self._body)
        self._reused = False  # whether the connection to the worker had served another request before
        self._released = False
        instance.touch()
        instance.exchanges += 1

    async def begin(self) -> None:
        """Send the request's head; raises the Problem of a worker that has gone."""
        try:
            await self._ask()
        except WorkerGone:
            self.release()
            await self._tell_broken()

    async def send(self, chunk: bytes) -> None:
        """Send a piece of the request's body, no faster than the worker reads."""
        await self._exchange.send(chunk)

    async def reply(self) -> None:
        """Pass the worker's reply on, once the request's body is complete; raises the Problem that prevents it."""
        try:
            await self._receive()
        except WorkerGone:
            await self._tell_broken()
        finally:
            self.release()

    def cancel(self) -> None:
        """End the exchange, because the browser has gone."""
        self._exchange.cancel()
        self.release()

    def release(self) -> None:
        """Stop counting the instance as in use by this request."""
        if not self._released:
            self._released = True
            self._instance.exchanges -= 1
            self._instance.touch()

    async def _ask(self, *, fresh: bool = False) -> None:
        request = self._handler.request
        headers = for_worker(request.headers)
        self._reused = await self._exchange.start(str(request.method), self._target, headers, fresh=fresh)

    async def _receive(self) -> None:
        try:
            await self._exchange.receive()
        except WorkerGone:
            # A kept-alive connection may have closed just before its use; a request that may be repeated is sent again.
            if self._exchange.begun or not self._reused or client_of(self._handler).stream.closed():
                raise
            await self._ask(fresh=True)
            await self._exchange.receive()

    async def _tell_broken(self) -> None:
        """Cut off a reply that has begun; if it has not, raise the Problem that prevented it."""
        if self._exchange.begun:
            client_of(self._handler).close()  # a cut-off reply must not look complete
            return
        for _ in range(3):  # the instance's own task reports its end a moment later
            if self._instance.problem is None:
                await self._instance.change(0.3)
        raise self._instance.problem or errors.NoAnswer(self._instance.dataset.label)

    async def _head(self, code: int, reason: str, headers: HTTPHeaders) -> None:
        handler = self._handler
        handler.clear()
        handler.set_status(code, reason)
        handler.clear_header("Content-Type")
        for name in headers:
            handler.clear_header(name)  # the worker's header replaces the gateway's default
        for name, value in headers.get_all():
            handler.add_header(name, handler.framed(value) if name == "Content-Security-Policy" else value)
        await self._flush()

    async def _body(self, chunk: bytes) -> None:
        self._handler.write(chunk)
        await self._flush()

    async def _flush(self) -> None:
        try:
            flushing = self._handler.flush()
            if not flushing.done():
                await asyncio.wait_for(flushing, STALL_SECONDS)
        except (StreamClosedError, asyncio.TimeoutError):  # the client has gone, or stopped reading
            client_of(self._handler).close()
            self._exchange.cancel()
