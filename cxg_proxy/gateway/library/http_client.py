"""An HTTP client for one GET request, which follows redirects and reads the reply only as fast as its caller takes it.

A reply can also be broken off. tornado's AsyncHTTPClient (before 6.6) can do neither, so this module is built from the
parts that AsyncHTTPClient is built from. Measured in its place: httpx loads 122 modules and 7 MB into a gateway, and
looks up hosts in threads that keep it from ending; aiohttp takes 8 MB, and drops the last 130 kB before a connection
broke off, from where a download would go on.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import Resolver
from tornado.tcpclient import TCPClient

from cxg_proxy.files.disk import on_disk

REDIRECTS = {301, 302, 303, 307, 308}
MAX_REDIRECTS = 5
PIECES = 16  # of 64 kB each, the most that wait for the caller


class RequestFailed(Exception):
    """There is no reply, or not all of it.

    The text gives the reason but no address, because addresses may hold secrets.
    """


def usable(address: str) -> bool:
    """Whether an address can be requested: http or https, with a host, in printable ASCII."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is not a number, or a bracket is not closed
        return False
    return known and address.isascii() and address.isprintable() and " " not in address


def onward(address: str, location: str) -> str:
    """Return the address that a redirect leads to; raises RequestFailed if it must not be followed."""
    target = urljoin(address, location)
    if not location or not usable(target):
        raise RequestFailed("the server sends us on to something that is neither http nor https")
    if address.startswith("https:") and not target.startswith("https:"):
        raise RequestFailed("the server sends us on from https to http, where anybody could change the file")
    return target


class Reply(HTTPMessageDelegate):
    """The reply to a GET request: `code`, `headers`, then the pieces of its `body`.

    `patience` is how many seconds the server may be silent.
    """

    def __init__(self, patience: float) -> None:
        self.code = 0
        self.headers = HTTPHeaders()
        self._patience = patience
        self._begun = asyncio.Event()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(PIECES)
        self._whole = False

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, all waiting pieces at a time; raises RequestFailed if it ends too early."""
        while piece := await self._soon(self._pieces.get()):
            pieces = [piece]
            while piece and not self._pieces.empty():
                pieces.append(piece := self._pieces.get_nowait())
            yield b"".join(pieces)
            if not piece:
                break
        if not self._whole:
            raise RequestFailed("the connection broke off")

    async def read(self, connection: HTTP1Connection) -> None:
        """Read the reply to its end, which is marked by an empty piece."""
        with contextlib.suppress(StreamClosedError):
            await connection.read_response(self)
        self._begun.set()
        await self._pieces.put(b"")

    async def begun(self) -> None:
        """Wait for the status and the headers; raises RequestFailed if the connection breaks off first."""
        await self._soon(self._begun.wait())
        if not self.code:
            raise RequestFailed("the connection broke off")

    async def _soon(self, work: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(work, self._patience)
        except asyncio.TimeoutError:
            raise RequestFailed(f"the server was silent for {self._patience:.0f} s") from None

    # --- what tornado calls while it reads ----------------------------------------------------------------------

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        """Store the status and the headers, unless this is an interim reply (status below 200)."""
        assert isinstance(start_line, ResponseStartLine)
        if start_line.code >= 200:
            self.code, self.headers = start_line.code, headers
            self._begun.set()

    def data_received(self, chunk: bytes) -> Awaitable[None]:
        """Queue a piece of the body; the next one is read when the queue has room for it."""
        return self._pieces.put(chunk)

    def finish(self) -> None:
        """Note that the body is as long as the headers announced."""
        self._whole = True

    def on_connection_close(self) -> None:
        """Do nothing: `read` notices that the connection has closed."""


@contextlib.asynccontextmanager
async def get_reply(address: str, headers: Mapping[str, str], patience: float) -> AsyncIterator[Reply]:
    """Send a GET request and yield its reply, which lasts as long as the block; raises RequestFailed."""
    for _ in range(MAX_REDIRECTS + 1):
        async with _exchange(address, headers, patience) as reply:
            if reply.code not in REDIRECTS:
                yield reply
                return
            address = onward(address, reply.headers.get("Location", ""))
    raise RequestFailed("the server sends us on for ever")


@contextlib.asynccontextmanager
async def _exchange(address: str, headers: Mapping[str, str], patience: float) -> AsyncIterator[Reply]:
    parts = urlsplit(address)
    stream = await _connect(parts, patience)
    reply = Reply(patience)
    connection = HTTP1Connection(stream, True, HTTP1ConnectionParameters(max_body_size=1 << 62))
    reading = asyncio.ensure_future(_ask(connection, parts, headers, reply))
    try:
        await reply.begun()
        yield reply
    finally:
        stream.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _ask(connection: HTTP1Connection, parts: SplitResult, headers: Mapping[str, str], reply: Reply) -> None:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    sent = HTTPHeaders({"Host": parts.netloc.rpartition("@")[2], "Connection": "close", **headers})
    if parts.username is not None:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        sent["Authorization"] = "Basic " + base64.b64encode(words.encode()).decode()
    with contextlib.suppress(StreamClosedError):  # the server may have replied already, which `read` notices
        await connection.write_headers(RequestStartLine("GET", target, "HTTP/1.1"), sent)
    connection.finish()
    await reply.read(connection)


class _Names(Resolver):
    """A resolver that looks up hosts in a daemon thread; asyncio's own threads would keep the gateway from ending."""

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[tuple[int, Any]]:
        """Return the IP addresses of a host; raises OSError."""
        ask = functools.partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        return [(found[0], found[4]) for found in await on_disk(ask, patience=None)]


@functools.cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()


async def _connect(parts: SplitResult, patience: float) -> IOStream:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    tls = _trust() if parts.scheme == "https" else None
    try:
        return await TCPClient(resolver=_Names()).connect(parts.hostname or "", port, ssl_options=tls, timeout=patience)
    except asyncio.TimeoutError:
        raise RequestFailed(f"the server did not answer within {patience:.0f} s") from None
    except (OSError, ValueError) as caught:  # ValueError: the host is not a valid name
        reason = getattr(caught, "real_error", None) or caught
        if isinstance(reason, ssl.SSLCertVerificationError):  # the text of this error contains the address
            raise RequestFailed("the server's certificate is not one that this machine trusts") from None
        said = getattr(reason, "strerror", None)
        raise RequestFailed(f"the server cannot be reached{f': {said}' if said else ''}") from None
