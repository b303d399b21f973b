"""cellxgene's own Flask application for one dataset, with replies, requests and errors made safe to serve to others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import server.common.rest as cellxgene_rest
from flask import Flask, Request, Response, jsonify, request
from flask.sessions import SessionInterface
from flask_compress import Compress
from server.app.app import Server
from server.common.errors import ConfigurationError
from server.common.utils.data_locator import DataLocator
from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError
from werkzeug.exceptions import NotImplemented as NotOffered

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import Busy, LabelsNotReadable, LabelsNotSaved, NotEnoughMemory, NotViewable, Problem, TooLarge

from . import headers, limits, options, page, reading
from .adaptor import Adaptor
from .configuration import Configuration
from .labels import Labels

_SLICE = 256 * 1024
_STATUS: dict[type[Problem], int] = {
    TooLarge: 413,
    Busy: 503,
    NotEnoughMemory: 503,
    LabelsNotSaved: 507,
    LabelsNotReadable: 500,
}
_RETRY_SECONDS = "5"


def load(
    dataset: str,
    labels: Path,
    chosen: dict[str, Any],
    *,
    read_only: bool,
    history_limit: int,
    threads: int,
    report: Callable[[float], None],
) -> Flask:
    """Read the dataset and build the application that shows it, or raise the Problem that prevents it."""
    kept = Labels(
        labels,
        dataset,
        shown=not chosen.get("disable_annotations", False),
        read_only=read_only,
        gene_sets_read_only=read_only or chosen.get("disable_gene_sets_save", False),
        history_limit=history_limit,
    )
    config = Configuration(dataset, kept)
    options.apply(chosen, config)
    state = f"{reading.fingerprint(dataset)} {sorted(chosen.items())} {kept.writable}"
    adaptor = Adaptor(DataLocator(dataset), config, turns=max(1, threads - 1), report=report)
    config.server_config.data_adaptor = adaptor
    try:
        config.complete_config()
    except ConfigurationError as error:
        raise NotViewable(display_name(dataset), detail=str(error)) from error
    _read_labels_once(kept, adaptor)
    return _build(config, adaptor, kept, state)


def _read_labels_once(labels: Labels, adaptor: Adaptor) -> None:
    """Say now what is wrong with a file of labels: later, cellxgene's page could only say that something is."""
    if labels.user_annotations_enabled():
        labels.read_labels(adaptor)
    labels.read_gene_sets(adaptor)


class _NoSession(SessionInterface):
    """Neither reads nor sets a cookie; who somebody is, the host knows."""

    def open_session(self, app: Flask, request: Request) -> None:
        return None


class _Viewer(Server):  # type: ignore[misc]  # cellxgene has no types
    @staticmethod
    def _before_adding_routes(app: Flask, app_config: Any) -> None:
        app.config["COMPRESS_MIMETYPES"] = [
            "text/html",
            "text/css",
            "text/xml",
            "text/javascript",
            "application/json",
            "application/javascript",
            "application/octet-stream",
        ]
        app.config["COMPRESS_ALGORITHM_STREAMING"] = ["zstd", "br", "gzip", "deflate"]
        Compress(app)


def _build(config: Configuration, adaptor: Adaptor, labels: Labels, dataset: str) -> Flask:
    app: Flask = _Viewer(config).app
    app.session_interface = _NoSession()
    # cellxgene's page asks for this file, which its package lacks.
    app.add_url_rule("/obsolete.js", "obsolete", lambda: Response("", mimetype="text/javascript"))
    _bound(adaptor)
    _speak_plainly(app)
    app.before_request(lambda: _before(adaptor, labels, dataset))
    # Flask calls these in reverse: headers first, then the body, and cellxgene's compression last.
    app.after_request(_whole)
    app.after_request(lambda response: _after(response, config, labels, dataset))
    return app


def _bound(adaptor: Adaptor) -> None:
    """Replace the three functions of cellxgene's handlers that trust what they are sent, or keep quiet about it."""
    cellxgene_rest.inflate = limits.bounded_inflate(adaptor.cell_count)
    cellxgene_rest.decode_matrix_fbs = limits.checked_decoder(cellxgene_rest.decode_matrix_fbs)
    cellxgene_rest.abort_and_log = _abort


def _abort(code: int, message: str, loglevel: int = logging.DEBUG, include_exc_info: bool = False) -> None:
    """cellxgene's `abort_and_log`, which gives the reason to the log alone and not to who asked."""
    logging.getLogger(__name__).info("%s %s: %s", request.method, request.path, message)
    error = BadRequest(message.strip("'\""))
    error.code = int(code)
    raise error


def _before(adaptor: Adaptor, labels: Labels, dataset: str) -> Response | None:
    """Answer what a browser still has, and refuse what cellxgene would stumble over."""
    tag = headers.etag(request, dataset, labels.version())
    if tag is not None and request.if_none_match.contains_weak(tag):
        return _not_modified(adaptor, labels, tag, dataset)
    if (request.endpoint, request.method) == ("api.annotationsobsapi", "PUT") and not labels.writable:
        raise NotOffered("Labels cannot be changed in this viewer.")
    if (request.endpoint, request.method) == ("api.diffexpobsapi", "POST"):
        limits.check_diffexp(request, adaptor.cell_count)
    elif (request.endpoint, request.method) == ("api.genesetsapi", "PUT"):
        limits.check_gene_sets(request)
    elif (request.endpoint, request.method) == ("api.datavarapi", "PUT"):
        limits.check_filter(request)
    return None


def _not_modified(adaptor: Adaptor, labels: Labels, tag: str, dataset: str) -> Response | None:
    """Only a header says what the page knows of the labels then; None if they have changed meanwhile."""
    if labels.user_annotations_enabled() and headers.depends_on_labels(request):
        labels.read_labels(adaptor)
        if headers.etag(request, dataset, labels.version()) != tag:
            return None
    return Response(status=304)


def _after(response: Response, config: Configuration, labels: Labels, dataset: str) -> Response:
    headers.add(request, response)
    if response.status_code in (200, 304):
        response.headers.update(page.told())
    if response.status_code in (200, 304):
        tag = headers.etag(request, dataset, labels.version())
        if tag is not None:
            response.set_etag(tag, weak=True)
    if response.mimetype == "text/html" and not response.is_streamed:
        scripts = config.dataset_config.app__scripts
        response.headers["Content-Security-Policy"] = headers.content_security_policy(response.get_data(), scripts)
    return response


def _whole(response: Response) -> Response:
    """Make the body of bytes: cellxgene's is a bytearray, which WSGI forbids, and which servers cut to nothing.

    A large body goes out in slices, so that neither compression nor the server copies it whole.
    """
    if response.direct_passthrough or response.is_streamed:
        return response
    body = response.response
    if not isinstance(body, list) or len(body) != 1 or not isinstance(body[0], (bytes, bytearray)):
        return response
    if len(body[0]) <= _SLICE:
        response.response = [bytes(body[0])]
    else:
        response.response = _slices(body[0])
    return response


def _slices(body: bytes | bytearray) -> Iterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), _SLICE):
        yield bytes(view[start : start + _SLICE])


def _speak_plainly(app: Flask) -> None:
    """Answer every error with a JSON sentence and the right status."""
    # flask_restful put its own error handling on the instance; without it, Flask's class has its say again.
    for name in ("handle_exception", "handle_user_exception"):
        vars(app).pop(name, None)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(MemoryError, lambda error: _problem(NotEnoughMemory("This request")))


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, InternalServerError):
        message = "The viewer failed at this request; its log says why. Reload the page and try again."
    else:
        message = error.description or error.name
    return _reply(error.code or 500, {"message": message})


def _problem(problem: Problem) -> Response:
    status = _STATUS.get(type(problem), 500)
    if status >= 500:
        logging.getLogger(__name__).error("%s %s: %s", request.method, request.path, problem.sentence)
    response = _reply(status, {"message": problem.sentence, **problem.to_json()})
    if status == 503:
        response.headers["Retry-After"] = _RETRY_SECONDS
    return response


def _reply(status: int, content: dict[str, Any]) -> Response:
    response = jsonify(content)
    response.status_code = status
    return response
