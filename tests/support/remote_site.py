"""A remote site with one dataset and adjustable behaviour, and the part of a gateway that downloads from it."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.remote import Remotes

SECRET = "s3cr3t"
CONTENT = hashlib.sha256(b"a dataset").digest() * 20_000  # 640 kB


class Site:
    """A server of one file; its attributes set its behaviour, and `asked` holds the headers of each request."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag = '"one"'
        self.modified = ""
        self.ranges = self.conditions = self.if_range = True
        self.status = 0  # sent instead of the file, if set
        self.location = ""
        self.stop_at: int | None = None  # break off after this many bytes
        self.most: int | None = None  # bytes of a range that are sent at a time
        self.hold_at: int | None = None  # send this many bytes and wait for `go`
        self.go = threading.Event()
        self.asked: list[dict[str, str]] = []
        self.sent: list[int] = []  # bytes of each reply
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}/far/atlas.h5ad?signature={SECRET}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(site) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append({name.lower(): value for name, value in self.headers.items()})
                try:
                    site._answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = self.asked[-1]
        known = {"ETag": self.etag, "Last-Modified": self.modified}
        same = self.conditions and (
            (self.etag and asked.get("if-none-match") == self.etag)
            or (self.modified and asked.get("if-modified-since") == self.modified)
        )
        if self.status or self.location or same:
            handler.send_response(self.status or (302 if self.location else 304))
            if self.location:
                handler.send_header("Location", self.location)
            handler.end_headers()
            return
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        if wanted and self.ranges and (asked.get("if-range") in (self.etag, self.modified) or not self.if_range):
            start = int(wanted[1])
        end = min(len(self.content), start + self.most) if start and self.most else len(self.content)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.content)}")
        for name, value in known.items():
            if value:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(end - start))
        handler.end_headers()
        self._send(handler, self.content[start:end])

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.sent.append(len(body))
        if self.stop_at is not None:
            body = body[: self.stop_at]
        elif self.hold_at is not None:
            handler.wfile.write(body[: self.hold_at])
            self.go.wait(30)
            body = body[self.hold_at :]
        handler.wfile.write(body)


@pytest.fixture(name="site")
def a_site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


class Here:
    """The part of one user's gateway that downloads the site's file."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address
        self.wait_at_most(20)
        self.library = Library({}, copies=self.remotes.folder, remotes=["atlas"])
        self.file = self.remotes.folder / "atlas.h5ad"
        self.part = self.remotes.folder / "atlas.h5ad.part"
        self.shares: list[float | None] = []

    def wait_at_most(self, seconds: float) -> None:
        """Wait so long for the site from now on."""
        self.remotes = Remotes(self._folder / "remote", {"atlas": self._address}, patience=seconds)

    async def fetch(self) -> Dataset:
        return await self.remotes.fetch(self.library.find("remote/atlas.h5ad"), self.shares.append)


@pytest.fixture(name="here")
def a_user(tmp_path: Path, site: Site) -> Here:
    return Here(tmp_path, site.address)
