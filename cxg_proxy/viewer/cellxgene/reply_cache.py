"""The cache of replies that every visitor of a dataset fetches: embeddings, columns and colours, compressed once.

The replies are kept beside the store of the dataset.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from flask import Flask, Request, Response
from werkzeug.datastructures import MultiDict

from cxg_proxy import etags

from . import compression, reply_tags
from .reply_files import ReplyFiles

BINARY = "application/octet-stream"
_JSON = "application/json"
_ROUTES = {
    "api.layoutobsapi": ("layout/obs", "layout-name"),
    "api.annotationsobsapi": ("annotations/obs", reply_tags.COLUMN),
    "api.annotationsvarapi": ("annotations/var", reply_tags.COLUMN),
}
_SMALL = 500  # bytes; a smaller reply is not worth compressing
_KEY = "cxg-proxy-replies"  # in the application's `extensions`
# The options that change kept replies; `layer` is not among them, since each layer has its own store.
OPTIONS = ("disable_custom_colors", "obs_names", "var_names")


class Replies:
    """The cached replies of one viewer, for the requests that every visitor makes."""

    def __init__(self, edition: str, columns: Container[str], folder: Path | None = None):
        """Take `columns`, those of obs in the file, and `folder`, where to keep replies; None keeps none."""
        self._edition, self._columns = edition, columns
        self._files: ReplyFiles | None = None
        if folder is not None:
            self.keep_in(folder)

    @staticmethod
    def of(application: Flask) -> Replies:
        """Return the cached replies of an application."""
        replies: Replies = application.extensions[_KEY]
        return replies

    def belong_to(self, application: Flask) -> None:
        """Attach these replies to an application, for `of`."""
        application.extensions[_KEY] = self

    def keep_in(self, folder: Path) -> None:
        """Keep replies in this folder from now on, since the dataset has its store."""
        self._files = ReplyFiles(folder, self._edition)

    def find(self, request: Request) -> Response | None:
        """Return the kept reply in an encoding that the client accepts, or None if there is none."""
        target, encoding = self._target(request), compression.chosen(request.accept_encodings, compression.KEPT)
        if self._files is None or target is None or encoding == compression.IDENTITY:
            return None
        content = self._files.get(target, encoding)
        return None if content is None else _packed(Response(mimetype=_type(target)), content, encoding)

    def keep(self, request: Request, response: Response) -> Response:
        """Compress and keep a new reply if it answers a request that every visitor makes; return the reply to send."""
        target, encoding = self._target(request), compression.chosen(request.accept_encodings, compression.KEPT)
        if self._files is None or target is None or encoding == compression.IDENTITY or not _plain(response):
            return response
        body = response.get_data()
        if len(body) < _SMALL:
            return response
        content = compression.pack(body, encoding)
        self._files.put(target, encoding, content)
        return _packed(response, content, encoding)

    def _target(self, request: Request) -> str | None:
        """Return the normalised target of the request, or None unless every visitor makes this request in this way."""
        wanted = _wanted(request.endpoint, request.args)
        if request.method != "GET" or wanted is None or not request.accept_mimetypes.quality(_type(wanted)):
            return None
        if request.endpoint == "api.annotationsobsapi" and not reply_tags.of_dataset_alone(request, self._columns):
            return None
        return wanted


def _wanted(endpoint: str | None, arguments: MultiDict[str, str]) -> str | None:
    """Return the normalised target of a request that every visitor makes, or None for another request.

    cellxgene's page requests one column or embedding at a time; a request for several is not answered from the cache.
    """
    if endpoint == "api.colorsapi":
        return "colors"
    if endpoint not in _ROUTES:
        return None
    route, name = _ROUTES[endpoint]
    values = arguments.getlist(name)
    return f"{route} {values[0]}" if len(values) == 1 else None


def _type(target: str) -> str:
    return _JSON if target == "colors" else BINARY


def _plain(response: Response) -> bool:
    """Whether this is a complete reply of cellxgene that is not yet compressed."""
    streamed = response.is_streamed or response.direct_passthrough
    return response.status_code == 200 and not streamed and "Content-Encoding" not in response.headers


def _packed(response: Response, content: bytes, encoding: str) -> Response:
    response.set_data(content)  # also sets Content-Length, which a reply in slices would lack
    response.headers["Content-Encoding"] = encoding
    return response


def edition(*made_from: object) -> str:
    """Return a digest of everything that kept replies are made from."""
    return etags.digest("replies", *made_from)
