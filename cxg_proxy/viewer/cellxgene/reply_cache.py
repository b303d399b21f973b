"""What every visitor of a dataset fetches is packed once, and kept beside its store: embeddings, columns, colours."""

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
_SMALL = 500  # bytes that are not worth packing
_KEY = "cxg-proxy-replies"  # of the application's own
# The options that change what is kept; a layer is part of what a store is made from.
OPTIONS = ("disable_custom_colors", "obs_names", "var_names")


class Replies:
    """Answers one viewer's requests for what everybody fetches from what was kept, and keeps what was not."""

    def __init__(self, edition: str, own: Container[str], folder: Path | None = None):
        """`own` are the columns of obs in the file, `folder` where to keep replies; None is nowhere."""
        self._edition, self._own = edition, own
        self._kept: ReplyFiles | None = None
        if folder is not None:
            self.keep_in(folder)

    @staticmethod
    def of(application: Flask) -> Replies:
        """Those of an application."""
        found: Replies = application.extensions[_KEY]
        return found

    def belong_to(self, application: Flask) -> None:
        """Let them be found by `of`."""
        application.extensions[_KEY] = self

    def keep_in(self, folder: Path) -> None:
        """Keep replies there from now on: the dataset has its store now."""
        self._kept = ReplyFiles(folder, self._edition)

    def find(self, request: Request) -> Response | None:
        """The kept reply, in an encoding that the client takes."""
        asked, encoding = self._asked(request), compression.chosen(request.accept_encodings, compression.KEPT)
        if self._kept is None or asked is None or encoding == compression.IDENTITY:
            return None
        content = self._kept.get(asked, encoding)
        return None if content is None else _packed(Response(mimetype=_type(asked)), content, encoding)

    def keep(self, request: Request, response: Response) -> Response:
        """Pack and keep a reply that was made just now, if it is one that everybody fetches."""
        asked, encoding = self._asked(request), compression.chosen(request.accept_encodings, compression.KEPT)
        if self._kept is None or asked is None or encoding == compression.IDENTITY or not _plain(response):
            return response
        made = response.get_data()
        if len(made) < _SMALL:
            return response
        content = compression.pack(made, encoding)
        self._kept.put(asked, encoding, content)
        return _packed(response, content, encoding)

    def _asked(self, request: Request) -> str | None:
        """What is asked for, in one way of saying it; None if not everybody asks for it, or not like this."""
        wanted = _wanted(request.endpoint, request.args)
        if request.method != "GET" or wanted is None or not request.accept_mimetypes.quality(_type(wanted)):
            return None
        if request.endpoint == "api.annotationsobsapi" and not reply_tags.of_dataset_alone(request, self._own):
            return None
        return wanted


def _wanted(endpoint: str | None, arguments: MultiDict[str, str]) -> str | None:
    """cellxgene's page asks for one column or embedding at a time; whoever asks otherwise waits for it."""
    if endpoint == "api.colorsapi":
        return "colors"
    if endpoint not in _ROUTES:
        return None
    route, name = _ROUTES[endpoint]
    values = arguments.getlist(name)
    return f"{route} {values[0]}" if len(values) == 1 else None


def _type(asked: str) -> str:
    return _JSON if asked == "colors" else BINARY


def _plain(response: Response) -> bool:
    """Whether it is a whole reply as cellxgene makes them, not yet packed."""
    streamed = response.is_streamed or response.direct_passthrough
    return response.status_code == 200 and not streamed and "Content-Encoding" not in response.headers


def _packed(response: Response, content: bytes, encoding: str) -> Response:
    response.set_data(content)  # with its length, which a reply in slices would not have
    response.headers["Content-Encoding"] = encoding
    return response


def edition(*made_from: object) -> str:
    """A word for all that kept replies are made from."""
    return etags.digest("replies", *made_from)
