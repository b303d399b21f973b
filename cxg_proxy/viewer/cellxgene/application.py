"""cellxgene's Flask application for one dataset, with replies, requests and errors made safe to serve to others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import server.common.rest as cellxgene_rest
from flask import Flask, Request, Response, jsonify, request
from flask.sessions import SessionInterface
from flask_compress import Compress
from server import __version__ as cellxgene_version
from server.app.app import Server
from server.common.constants import Axis
from server.common.errors import ConfigurationError
from server.common.utils.data_locator import DataLocator
from werkzeug.exceptions import BadRequest, HTTPException, InternalServerError
from werkzeug.exceptions import NotImplemented as NotOffered

from cxg_proxy import __version__, etags
from cxg_proxy.annotations import display_name
from cxg_proxy.errors import (
    NotEnoughMemory,
    NotViewable,
    Problem,
)
from cxg_proxy.status_codes import status_of
from cxg_proxy.viewer import options
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.dataset.metadata import Metadata
from cxg_proxy.viewer.progress import Cancelled
from cxg_proxy.viewer.source import h5ad

from . import compression, page_headers, reply_cache, request_limits, response_headers
from .adaptor import Adaptor
from .admission import WAITING, Admission
from .config import Configuration
from .labels import CellxgeneAnnotations
from .reply_cache import Replies
from .reply_tags import COLUMN, Tags, of_dataset_alone

_SLICE = 256 * 1024
_RETRY_SECONDS = "5"
_CLIENT_CLOSED_REQUEST = 499  # nginx's status; no client will read it


def load(
    dataset: str,
    labels: Path,
    chosen: dict[str, Any],
    *,
    read_only: bool,
    history_limit: int,
    diffexp_workers: int,
    diffexp_max_cells: int | None,
    read: Callable[[str, str | None], tuple[Metadata, Expression]],
) -> Flask:
    """Read the dataset and build the application that shows it, or raise the Problem that prevents it.

    `read` takes a path and a layer, and returns the metadata and the expression, which may still be in preparation.
    """
    user_labels = CellxgeneAnnotations(
        labels,
        dataset,
        shown=not chosen.get("disable_annotations", False),
        read_only=read_only,
        gene_sets_read_only=read_only or chosen.get("disable_gene_sets_save", False),
        history_limit=history_limit,
    )
    config = Configuration(dataset, user_labels)
    options.apply(chosen, config)
    options.bound_cells(config, diffexp_max_cells)
    file = h5ad.fingerprint(dataset)
    rest, expression = read(dataset, chosen.get("layer"))
    adaptor = Adaptor(DataLocator(dataset), config, rest, expression, Admission(WAITING, diffexp_workers))
    config.server_config.data_adaptor = adaptor
    try:
        config.complete_config()
    except ConfigurationError as error:
        raise NotViewable(display_name(dataset), detail=str(error)) from error
    _read_labels_once(user_labels, adaptor)
    software = (__version__, cellxgene_version, adaptor.get_library_versions())
    state = etags.digest(software, dataset, file, sorted(chosen.items()), diffexp_max_cells, read_only)
    edition = reply_cache.edition(software, file, [chosen.get(name) for name in reply_cache.OPTIONS])
    columns = frozenset(adaptor.get_obs_keys())
    tags = Tags(state, columns, user_labels.version if user_labels.user_annotations_enabled() else None)
    shared = Replies(edition, columns)
    expression.when_stored(lambda store: shared.keep_in(store.replies))
    return _build(config, adaptor, user_labels, tags, shared)


def _read_labels_once(labels: CellxgeneAnnotations, adaptor: Adaptor) -> None:
    """Read the labels and gene sets once, to raise LabelsNotReadable now: cellxgene's page gives no reason."""
    if labels.user_annotations_enabled():
        labels.read_labels(adaptor)
    labels.read_gene_sets(adaptor)


class _NoSession(SessionInterface):
    """A session that neither reads nor sets a cookie, since the host identifies the user."""

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
        app.config["COMPRESS_ALGORITHM_STREAMING"] = compression.ALL
        Compress(app)


def _build(config: Configuration, adaptor: Adaptor, labels: CellxgeneAnnotations, tags: Tags, shared: Replies) -> Flask:
    app: Flask = _Viewer(config).app
    app.session_interface = _NoSession()
    # cellxgene's page requests this file, which its package lacks.
    app.add_url_rule("/obsolete.js", "obsolete", lambda: Response("", mimetype="text/javascript"))
    tags.belong_to(app)
    shared.belong_to(app)
    _bound(adaptor)
    _speak_plainly(app)
    app.before_request(_prefer_one_encoding)
    app.before_request(lambda: _before(adaptor, labels, tags))
    app.before_request(lambda: shared.find(request) or _own_column(adaptor))
    # Flask calls these in reverse order: headers first, then the body, and cellxgene's compression last.
    app.after_request(_whole)
    app.after_request(lambda response: shared.keep(request, response))
    app.after_request(lambda response: _after(response, config, tags))
    return app


def _bound(adaptor: Adaptor) -> None:
    """Replace three functions of cellxgene's handlers: two trust the request, and one hides the reason of an error."""
    cellxgene_rest.inflate = request_limits.bounded_inflate(adaptor.cell_count)
    cellxgene_rest.decode_matrix_fbs = request_limits.checked_decoder(cellxgene_rest.decode_matrix_fbs)
    cellxgene_rest.abort_and_log = _abort


def _abort(code: int, message: str, loglevel: int = logging.DEBUG, include_exc_info: bool = False) -> None:
    """Abort the request and give the client the reason, which cellxgene's `abort_and_log` only logs."""
    logging.getLogger(__name__).info("%s %s: %s", request.method, request.path, message)
    error = BadRequest(message.strip("'\""))
    error.code = int(code)
    raise error


def _before(adaptor: Adaptor, labels: CellxgeneAnnotations, tags: Tags) -> Response | None:
    """Answer 304 if the browser's copy is current, and refuse requests on which cellxgene would fail."""
    tag = tags.of(request)
    if tag is not None and request.if_none_match.contains_weak(tag):
        return _not_modified(adaptor, labels, tag, tags)
    if (request.endpoint, request.method) == ("api.annotationsobsapi", "PUT") and not labels.writable:
        raise NotOffered("Labels cannot be changed in this viewer.")
    if (request.endpoint, request.method) == ("api.diffexpobsapi", "POST"):
        request_limits.check_diffexp(request, adaptor.cell_count)
    elif (request.endpoint, request.method) == ("api.genesetsapi", "PUT"):
        request_limits.check_gene_sets(request)
    elif (request.endpoint, request.method) == ("api.datavarapi", "PUT"):
        request_limits.check_filter(request)
    return None


def _not_modified(adaptor: Adaptor, labels: CellxgeneAnnotations, tag: str, tags: Tags) -> Response | None:
    """Return a 304 reply, or None if the labels have changed meanwhile.

    The labels are read because a header of the reply reports their state to the page.
    """
    if tags.depends_on_labels(request):
        labels.read_labels(adaptor)
        if tags.of(request) != tag:
            return None
    return Response(status=304)


def _own_column(adaptor: Adaptor) -> Response | None:
    """Return a column of obs from the file without reading the labels, as cellxgene would; None for other requests."""
    if request.endpoint != "api.annotationsobsapi" or request.method not in ("GET", "HEAD"):
        return None
    if not of_dataset_alone(request, adaptor.get_obs_columns()):
        return None
    if not request.accept_mimetypes.quality(reply_cache.BINARY):
        return None
    column = adaptor.annotation_to_fbs_matrix(Axis.OBS, request.args.getlist(COLUMN), None)
    return Response(column, mimetype=reply_cache.BINARY)


def _prefer_one_encoding() -> None:
    """Leave cellxgene's compression only one encoding, since it may choose one that the client refuses with `q=0`."""
    request.environ["HTTP_ACCEPT_ENCODING"] = compression.chosen(request.accept_encodings)


def _after(response: Response, config: Configuration, tags: Tags) -> Response:
    response_headers.add(request, response)
    if response.status_code in (200, 304):
        response.headers.update(page_headers.reply_headers())
        tag = tags.of(request)
        if tag is not None:
            response.set_etag(tag, weak=True)
    if response.mimetype == "text/html" and not response.is_streamed:
        scripts = config.dataset_config.app__scripts
        response.headers["Content-Security-Policy"] = response_headers.content_security_policy(
            response.get_data(), scripts
        )
    return response


def _whole(response: Response) -> Response:
    """Convert the body to bytes: cellxgene's is a bytearray, which WSGI forbids and servers truncate to nothing.

    A large body is sent in slices, so that neither the compression nor the server copies all of it.
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
    """Answer every error with a sentence in JSON and the right status."""
    # flask_restful sets its error handlers on the instance; without these, those of Flask's class apply again.
    for name in ("handle_exception", "handle_user_exception"):
        vars(app).pop(name, None)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(Cancelled, _nobody_waits)
    app.register_error_handler(MemoryError, lambda error: _problem(NotEnoughMemory("This request")))


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, InternalServerError):
        message = "The viewer failed at this request; its log says why. Reload the page and try again."
    else:
        message = error.description or error.name
    return _reply(error.code or 500, {"message": message})


def _nobody_waits(cancelled: Cancelled) -> Response:
    return Response(status=_CLIENT_CLOSED_REQUEST)


def _problem(problem: Problem) -> Response:
    status = status_of(problem)
    if status >= 422:  # a body that is too large is nothing to look into
        logging.getLogger(__name__).error("%s %s: %s", request.method, request.path, problem.sentence)
    response = _reply(status, {"message": problem.sentence, **problem.to_json()})
    if status == 503:
        response.headers["Retry-After"] = _RETRY_SECONDS
    return response


def _reply(status: int, content: dict[str, Any]) -> Response:
    response = jsonify(content)
    response.status_code = status
    return response
