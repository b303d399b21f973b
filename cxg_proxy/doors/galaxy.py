"""The Galaxy door: it turns the environment of an interactive tool into options, and sends labels to the history."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from cxg_proxy.errors import NotSent
from cxg_proxy.gateway.app import launch
from cxg_proxy.gateway.labels.outbox import Outgoing

ENTRY_POINT = "CXG_GALAXY_ENTRY_POINT"  # the path of the link that Galaxy shows; its query holds our token
URL = "CXG_GALAXY_URL"
KEY = "CXG_GALAXY_API_KEY"
HISTORY = "CXG_GALAXY_HISTORY_ID"
PREFIX_HEADER = "x-galaxy-entry-point-path"
SEND_SECONDS = 120.0


def main(arguments: Sequence[str], sockets: Sequence[socket.socket] = ()) -> None:
    """Run `cxg-proxy galaxy …`, the gateway for one dataset of a Galaxy history; `sockets` are already listening."""
    launch(list(arguments), listening=list(sockets), **options_from_environment(os.environ))


def options_from_environment(environment: MutableMapping[str, str]) -> dict[str, Any]:
    """Return the options that Galaxy has set, and remove their variables, among them secrets, from the environment."""
    entry, url, key, history = (environment.pop(name, "").strip() for name in (ENTRY_POINT, URL, KEY, HISTORY))
    options: dict[str, Any] = {"prefix_header": PREFIX_HEADER}
    if tokens := parse_qs(urlsplit(entry).query).get("token"):
        options["token"] = tokens[0]
    site = urlsplit(url)
    if site.scheme in ("http", "https") and site.netloc:
        # Where each tool has its own domain, Galaxy's pages show it in a frame.
        options["frame_ancestors"] = f"{site.scheme}://{site.netloc}"
        options["sender"] = History(url, key, history)
    return options


class History:
    """A Galaxy history, to which files are uploaded as its user."""

    name = "history"

    def __init__(self, url: str, key: str, history: str) -> None:
        self._url, self._key, self._history = url.rstrip("/"), key, history

    async def send(self, files: Sequence[Outgoing]) -> Sequence[str]:
        """Upload each file as a dataset; returns their numbers and names in the history. Raises NotSent."""
        if not self._key or not self._history:
            raise NotSent(detail="Galaxy has not told this tool whose history it runs for")
        reply = await self._post("/api/tools/fetch", files)
        try:
            outputs = json.loads(reply.body)["outputs"]
            names = [f"{int(each['hid'])}: {each['name']}" for each in outputs]
        except (ValueError, KeyError, TypeError) as reason:
            raise NotSent(detail="Galaxy’s answer cannot be understood") from reason
        if len(names) < len(files):
            raise NotSent(detail=f"Galaxy has taken {len(names)} of {len(files)} files")
        return names

    async def _post(self, path: str, files: Sequence[Outgoing]) -> HTTPResponse:
        boundary = secrets.token_hex(16)
        request = HTTPRequest(
            self._url + path,
            method="POST",
            headers={"x-api-key": self._key, "Content-Type": f"multipart/form-data; boundary={boundary}"},
            body=_form(self._history, files, boundary),
            connect_timeout=20,
            request_timeout=SEND_SECONDS,
            follow_redirects=False,  # the key must not be sent to any other host
        )
        try:
            return await AsyncHTTPClient(force_instance=True).fetch(request)
        except HTTPClientError as reason:
            raise NotSent(detail=_refusal(reason)) from None  # a traceback must not show the request with its key
        except (OSError, ValueError) as reason:
            detail = f"{urlsplit(self._url).netloc} cannot be reached from here: {reason}"
            raise NotSent(detail=detail.replace(self._key, "…")) from None


def _form(history: str, files: Sequence[Outgoing], boundary: str) -> bytes:
    """Make a form as Galaxy's own pages do (multipart/form-data, RFC 7578), with every byte of the files unchanged."""
    elements = [{"src": "files", "name": each.name, "ext": "csv"} for each in files]
    targets = json.dumps([{"destination": {"type": "hdas"}, "elements": elements}])
    fields = {"history_id": history, "targets": targets}
    parts = [_part(boundary, f'name="{name}"', value.encode()) for name, value in fields.items()]
    for number, each in enumerate(files):
        parts.append(_part(boundary, f'name="files_{number}|file_data"; filename="{number}.csv"', each.content))
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _part(boundary: str, name: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + content + b"\r\n"


def _refusal(reason: HTTPClientError) -> str:
    """Return why Galaxy refused the files, in Galaxy's own words if it gave any."""
    if reason.code == 413:
        return "the web server in front of Galaxy takes no files of this size"
    if reason.code == 599:
        return "Galaxy does not answer"
    try:
        message = str(json.loads(reason.response.body)["err_msg"])[:200] if reason.response else ""
    except (ValueError, KeyError, TypeError):
        message = ""
    return f"Galaxy refuses: {message or reason.code}"
