"""An HTTP exchange with a worker, streamed both ways over its unix socket and never held in memory as a whole.

Each side reads only as fast as the other writes, so a reply of any size costs a few chunks of memory.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from cxg_proxy.errors import BadRequest

STALL_SECONDS = 300.0  # a client that neither sends nor reads for this long is cut off; as in jupyter-server-proxy

# The headers that belong to one connection, by RFC 9110, section 7.6.1, or by custom.
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    "upgrade".split()
)
# Identifying the user is the host's business; a worker that never receives credentials cannot leak them.
NOT_FOR_WORKERS = frozenset({"cookie", "authorization", "x-xsrftoken", "expect"})
NOT_FROM_WORKERS = frozenset({"set-cookie", "server", "date"})

CHUNK = 256 * 1024
IDLE_CONNECTIONS = 4
FRAMING = frozenset({"content-length", "host", "transfer-encoding"})
CHUNKED_METHODS = frozenset({"POST", "PUT", "PATCH"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

Head = Callable[[int, str, HTTPHeaders], Awaitable[None]]
Body = Callable[[bytes], Awaitable[None]]


class WorkerGone(Exception):
    """The worker closed the connection before its reply was complete."""


def refuse_odd_framing(method: str, headers: HTTPHeaders) -> None:
    """Raise BadRequest if the length of a body is ambiguous: the rest of it could be taken for another request.

    tornado's client sends a body in chunks for three methods only, and cellxgene needs no other.
    """
    named = {name.strip().lower() for value in headers.get_list("Connection") for name in value.split(",")}
    if named & FRAMING:
        raise BadRequest(detail=f"its Connection header names {', '.join(sorted(named & FRAMING))}")
    coding = headers.get("Transfer-Encoding")
    if coding is None:
        if method not in CHUNKED_METHODS and headers.get("Content-Length", "0").strip() != "0":
            raise BadRequest(detail=f"a {method} request with a body")
        return
    if coding.strip().lower() != "chunked" or "Content-Length" in headers or method not in CHUNKED_METHODS:
        raise BadRequest(detail=f"a {method} request with Transfer-Encoding: {coding[:50]}")


def for_worker(headers: HTTPHeaders) -> HTTPHeaders:
    """Return the request headers that a worker may see."""
    return _without(headers, NOT_FOR_WORKERS)


def from_worker(headers: HTTPHeaders) -> HTTPHeaders:
    """Return the reply headers that may leave a worker."""
    return _without(headers, NOT_FROM_WORKERS)


def _without(headers: HTTPHeaders, dropped: frozenset[str]) -> HTTPHeaders:
    # A header that Connection names belongs to that connection too.
    named = {name.strip().lower() for value in headers.get_list("Connection") for name in value.split(",")}
    result = HTTPHeaders()
    for name, value in headers.get_all():
        if name.lower() not in HOP_BY_HOP | dropped | named:
            result.add(name, value)
    return result


class Connections:
    """The kept-alive connections to one worker's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[IOStream] = []

    async def take(self, *, fresh: bool) -> tuple[IOStream, bool]:
        """Return a connection, and whether it was used before; raises WorkerGone if nothing listens on the socket."""
        while self._idle and not fresh:
            stream = self._idle.pop()
            if not stream.closed():
                return stream, True
        stream = IOStream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), max_write_buffer_size=8 * CHUNK)
        try:
            await stream.connect(str(self.path))
        except (StreamClosedError, OSError) as reason:
            stream.close()
            raise WorkerGone(str(reason)) from reason
        return stream, False

    def give_back(self, stream: IOStream) -> None:
        """Keep an open connection for the next exchange."""
        if stream.closed() or len(self._idle) >= IDLE_CONNECTIONS:
            stream.close()
        else:
            stream.set_close_callback(lambda: self._idle.remove(stream) if stream in self._idle else None)
            self._idle.append(stream)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


class Exchange(HTTPMessageDelegate):
    """One request to a worker: `start` it, `send` its body piece by piece, `receive` the reply, or `cancel`."""

    def __init__(self, connections: Connections, head: Head, body: Body) -> None:
        self._connections = connections
        self._head, self._body = head, body
        self._stream: IOStream | None = None
        self._connection: HTTP1Connection | None = None
        self._complete = False
        self.begun = False  # a part of the reply has been passed on

    async def start(self, method: str, target: str, headers: HTTPHeaders, *, fresh: bool = False) -> bool:
        """Send the request line and the headers; return True if the connection is an old one, which may be dead."""
        fresh = fresh or method not in SAFE_METHODS  # only a request that may be repeated risks an old connection
        self._stream, old = await self._connections.take(fresh=fresh)
        params = HTTP1ConnectionParameters(chunk_size=CHUNK, max_body_size=1 << 62)
        self._connection = HTTP1Connection(self._stream, True, params)
        await self._written(self._connection.write_headers(RequestStartLine(method, target, "HTTP/1.1"), headers))
        return old

    async def send(self, chunk: bytes) -> None:
        """Send a piece of the request's body, no faster than the worker reads."""
        if self._connection is not None:
            await self._written(self._connection.write(chunk))

    async def receive(self) -> None:
        """Pass the reply on; raises WorkerGone if it breaks off."""
        assert self._connection is not None
        assert self._stream is not None
        try:
            self._connection.finish()
            still_open = await self._connection.read_response(self)
        except StreamClosedError as reason:
            raise WorkerGone("the connection broke off") from reason
        finally:
            if not self._complete:
                self._stream.close()
        if not self._complete:
            raise WorkerGone("the reply broke off")
        if still_open:
            self._connections.give_back(self._stream)

    def cancel(self) -> None:
        """Break the exchange off, because the client has gone."""
        if self._stream is not None and not self._complete:
            self._stream.close()

    async def _written(self, writing: Awaitable[None]) -> None:
        try:
            await writing
        except StreamClosedError:
            # The worker may have replied before it read everything (with 413, say): `receive` will find out.
            return

    # --- what tornado calls while it reads the reply ----------------------------------------------------------

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Pass on the status and the headers of the reply."""
        assert isinstance(start_line, ResponseStartLine)
        if start_line.code < 200:
            return None
        self.begun = True
        return asyncio.ensure_future(self._head(start_line.code, start_line.reason, from_worker(headers)))

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Pass on a piece of the reply's body."""
        return self._body(chunk)

    def finish(self) -> None:
        """Note that the reply is complete."""
        self._complete = True

    def on_connection_close(self) -> None:
        """Do nothing: `receive` notices that the worker closed the connection before the end."""
