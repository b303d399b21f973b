"""A browser as a server sees it: six kept-alive connections, a cache that obeys headers, and cellxgene's requests."""

from __future__ import annotations

import gzip
import http.client
import json
import queue
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONNECTIONS = 6  # as many as browsers open for HTTP/1.1
HEADERS = {"Accept-Encoding": "gzip, deflate, br, zstd", "Sec-Fetch-Site": "same-origin", "Connection": "keep-alive"}
PAGE = {"Accept": "text/html"}
BINARY = {"Accept": "application/octet-stream"}
FORM = {**BINARY, "Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Accept": "application/json", "Content-Type": "application/json"}
ASKED = re.compile(r'<(?:script|link)[^>]*\s(?:src|href)="([^"]+\.(?:js|css))"')
DECOMPRESS = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": zstd.decompress}
VIEWER = '<div id="root">'  # only cellxgene's own page has it

Connect = Callable[[], http.client.HTTPConnection]


class NotServed(Exception):
    """The reply is not the one requested."""


@dataclass
class Reply:
    """A reply, read completely and still compressed."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def size(self) -> int:
        """The transferred bytes, including headers."""
        return len(self.body) + sum(len(name) + len(value) + 4 for name, value in self.headers.items())


@dataclass
class Opened:
    """A viewer that shows its embedding: the seconds that it took, and what its page knows then."""

    page: float
    shown: float
    index: str  # the name of the column of `var` that names the genes
    steps: dict[str, float] = field(default_factory=dict)  # seconds after the click


class Browser:
    """One browser of one server. It is thread-safe: concurrent requests use several connections."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()
        self._threads = ThreadPoolExecutor(CONNECTIONS)
        self._kept: dict[str, Reply] = {}
        self.bytes = 0  # received since it was last set to zero

    def close(self) -> None:
        """Close its threads and connections."""
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get_nowait().close()

    # --- single requests ------------------------------------------------------------------------------------------

    def get(self, target: str, headers: dict[str, str]) -> Reply:
        """Return what a browser has after a GET: its cached reply, if that is fresh or confirmed, or a new one."""
        kept = self._kept.get(target)
        if kept is not None and _fresh(kept):
            return kept
        condition = {"If-None-Match": str(kept.headers["ETag"])} if kept is not None and kept.headers["ETag"] else {}
        reply = self.ask("GET", target, {**headers, **condition})
        if reply.status == 304 and kept is not None:
            return kept
        if reply.status == 200 and "no-store" not in reply.headers.get("Cache-Control", ""):
            self._kept[target] = reply
        return reply

    def ask(self, method: str, target: str, headers: dict[str, str], body: str | None = None) -> Reply:
        """Make one exchange. If the server has closed the kept-alive connection, a GET is repeated over a new one."""
        for last in (False, True) if method == "GET" else (True,):
            connection = self._connection(fresh=last)
            try:
                connection.request(method, target, body, {**HEADERS, **headers})
                response = connection.getresponse()
                reply = Reply(response.status, response.headers, response.read())
            except (http.client.HTTPException, OSError):
                connection.close()
                if last:
                    raise
                continue
            self._idle.put(connection)
            self.bytes += reply.size
            return reply
        raise AssertionError("unreachable")

    def _connection(self, *, fresh: bool) -> http.client.HTTPConnection:
        if fresh or self._idle.empty():
            return self._connect()
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connect()

    def good(self, method: str, target: str, headers: dict[str, str], body: str | None = None) -> Reply:
        """Make a request like `get` or `ask`; raises NotServed unless the status is 200."""
        reply = self.get(target, headers) if method == "GET" else self.ask(method, target, headers, body)
        if reply.status != 200:
            raise NotServed(f"{method} {target[:200]} → {reply.status}: {reply.body[:300].decode(errors='replace')}")
        return reply

    def at_once(self, targets: Sequence[str], headers: dict[str, str]) -> list[Reply]:
        """Make several GETs over all connections; raises NotServed unless every status is 200."""
        return list(self._threads.map(lambda target: self.good("GET", target, headers), targets))

    def _scripts(self, targets: Sequence[str]) -> None:
        """Request the scripts of a page, with any status: cellxgene's page names a script that its package lacks."""
        list(self._threads.map(lambda target: self.get(target, {"Accept": "*/*"}), targets))

    # --- actions of a person --------------------------------------------------------------------------------------

    def open(self, viewer: str, begin: float | None = None) -> Opened:
        """Click on a dataset, and wait until all data for the embedding and the sidebar has arrived.

        `begin` is the moment of the click (`time.perf_counter`), by default now. Raises NotServed.
        """
        begin = time.perf_counter() if begin is None else begin
        steps: dict[str, float] = {}

        def step(name: str) -> None:
            steps[name] = time.perf_counter() - begin

        text = self._viewer_page(viewer)
        step("page")
        self._scripts([urljoin(viewer, found) for found in ASKED.findall(text)])
        step("scripts")
        api = f"{viewer}api/v0.2/"
        answers = self.at_once([f"{api}{name}" for name in ("schema", "config", "colors", "genesets")], JSON)
        step("schema")
        schema = json.loads(_plain(answers[0]))["schema"]
        columns = [quote(column["name"], safe="") for column in schema["annotations"]["obs"]["columns"]]
        index = schema["annotations"]["var"]["index"]
        layouts = [each["name"] for each in schema["layout"]["obs"]]
        shown = "umap" if "umap" in layouts else layouts[0]
        targets = [f"{api}layout/obs?layout-name={quote(shown, safe='')}"]
        targets += [f"{api}annotations/var?annotation-name={quote(index, safe='')}"]
        targets += [f"{api}annotations/obs?annotation-name={column}" for column in columns]
        self.at_once(targets, BINARY)
        step("embedding and metadata")
        return Opened(steps["page"], steps["embedding and metadata"], index, steps)

    def _viewer_page(self, viewer: str) -> str:
        """Return the viewer's page; while the server sends the opening page, follow its progress as its script does."""
        while True:
            text = _plain(self.good("GET", viewer, PAGE))
            if VIEWER in text:
                return text
            self._follow(urlsplit(viewer).path.removeprefix("/view/").rstrip("/"))

    def _follow(self, address: str) -> None:
        """Read the stream of steps until the viewer is ready."""
        connection = self._connect()
        try:
            connection.request("GET", f"/api/progress/{address}", headers={**HEADERS, "Accept": "text/event-stream"})
            for line in connection.getresponse():
                if line.startswith(b"data:"):
                    said = json.loads(line[5:])
                    if said["phase"] in ("failed", "closed"):
                        raise NotServed(f"{address}: {said.get('problem') or said['phase']}")
        finally:
            connection.close()

    def gene(self, viewer: str, index: str, gene: str) -> Reply:
        """Colour by one gene."""
        return self.good("GET", f"{viewer}api/v0.2/data/var?{_where(index, gene)}", BINARY)

    def gene_set(self, viewer: str, index: str, genes: Sequence[str]) -> Reply:
        """Colour by the mean of a gene set."""
        body = "method=mean&" + "&".join(_where(index, gene) for gene in genes)
        return self.good("POST", f"{viewer}api/v0.2/summarize/var", FORM, body)

    def compare(self, viewer: str, body: str) -> dict[str, Any]:
        """Compute the differential expression of two groups; `comparison` makes the body."""
        reply = self.good("POST", f"{viewer}api/v0.2/diffexp/obs", JSON, body)
        found: dict[str, Any] = json.loads(_plain(reply))
        if not found.get("positive") or not found.get("negative"):
            raise NotServed(f"a comparison without genes: {str(found)[:200]}")
        return found


def comparison(first: Sequence[int], second: Sequence[int], count: int = 10) -> str:
    """Return the request for a differential expression as cellxgene's page makes it: every cell by its index."""
    sets = {name: {"filter": {"obs": {"index": list(cells)}}} for name, cells in (("set1", first), ("set2", second))}
    return json.dumps({"mode": "topN", "count": count, **sets})


def _where(index: str, gene: str) -> str:
    # cellxgene's page escapes twice.
    return f"var:{quote(quote(index, safe=''), safe='')}={quote(quote(gene, safe=''), safe='')}"


def _fresh(reply: Reply) -> bool:
    said = reply.headers.get("Cache-Control", "")
    age = re.search(r"max-age=(\d+)", said)
    return bool(age and int(age[1]) > 0 and "no-cache" not in said)


def _plain(reply: Reply) -> str:
    """Return the text of a reply, decompressed."""
    encoding = reply.headers.get("Content-Encoding", "")
    return DECOMPRESS[encoding](reply.body).decode() if encoding else reply.body.decode()
