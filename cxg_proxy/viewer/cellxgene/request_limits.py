"""The limits of what a request may send, each with a sentence for a request that exceeds it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

from flask import Request
from waitress.parser import HTTPRequestParser
from waitress.utilities import RequestEntityTooLarge
from werkzeug.exceptions import BadRequest

from cxg_proxy.errors import TooLarge

from .adaptor import TOP_N_MAX

BODY_BYTES = 64 * 1024 * 1024
_INFLATED_BYTES = 16 * 1024 * 1024
_INFLATED_BYTES_PER_CELL = 1024  # some forty categories of labels
_INFLATED_BYTES_MAX = 1024 * 1024 * 1024


def too_large(limit: int) -> TooLarge:
    """Return the problem of a body beyond `limit` bytes."""
    return TooLarge("The request", detail=f"the limit is {limit:,} bytes")


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """waitress's parser, with this project's JSON reply to a body beyond the limit."""

    error: Any

    def received(self, data: bytes) -> int:
        """Process `data`, and return how many of its bytes belong to this request."""
        consumed: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge):
            self.error = _TooLargeReply()
        return consumed


class _TooLargeReply(RequestEntityTooLarge):  # type: ignore[misc]  # waitress has no types
    def __init__(self) -> None:
        super().__init__("")

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        body = json.dumps({"message": too_large(BODY_BYTES).sentence}).encode()
        headers = [("Content-Length", str(len(body))), ("Content-Type", "application/json"), ("Connection", "close")]
        return "413 Request Entity Too Large", headers, body


def bounded_inflate(cells: int) -> Callable[[bytes], bytes]:
    """Return a `zlib.decompress` limited to what the labels of `cells` cells can need: 16 MiB and 1 KiB per cell.

    The limit is 1 GiB at most. The function raises TooLarge beyond it, and BadRequest for data that is incomplete or
    not compressed by zlib.
    """
    limit = min(_INFLATED_BYTES_MAX, _INFLATED_BYTES + cells * _INFLATED_BYTES_PER_CELL)

    def inflate(data: bytes) -> bytes:
        stream = zlib.decompressobj()
        try:
            content = stream.decompress(data, limit)
        except zlib.error as error:
            raise BadRequest("The labels are not compressed as zlib does it. Reload the page and try again.") from error
        if stream.unconsumed_tail:
            raise too_large(limit)
        if not stream.eof:
            raise BadRequest("The labels arrived incomplete. Reload the page and try again.")
        return content

    return inflate


def checked_decoder(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return cellxgene's decoder of label tables so wrapped that it raises ValueError for any malformed bytes."""

    def decode_checked(content: bytes) -> Any:
        try:
            return decode(content)
        except (struct.error, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError("The labels are not a table as the viewer sends it. Reload the page.") from error

    return decode_checked


def check_diffexp(request: Request, cells: int) -> None:
    """Raise BadRequest for arguments of a differential expression that cellxgene does not check."""
    order = _object(request)
    if order.get("mode") != "topN" or "varFilter" in order:
        raise BadRequest("mode must be topN; this viewer has no other.")
    count = order.get("count")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= TOP_N_MAX:
        raise BadRequest(f"count is {_shown(count)}, but must be a whole number from 1 to {TOP_N_MAX}.")
    for name in ("set1", "set2"):
        chosen = order.get(name)
        chosen = chosen.get("filter") if isinstance(chosen, dict) else None
        chosen = chosen.get("obs") if isinstance(chosen, dict) else None
        if not isinstance(chosen, dict) or not chosen:
            raise BadRequest(f"{name} must say which cells are meant, as filter.obs.")
        _check_index(name, chosen.get("index", []), cells)


def _check_index(name: str, index: Any, cells: int) -> None:
    if not isinstance(index, list):
        raise BadRequest(f"The index of {name} must be a list of cell numbers.")
    for entry in index:
        ends = entry if isinstance(entry, list) else [entry, entry + 1 if type(entry) is int else None]
        if len(ends) != 2 or not all(type(end) is int for end in ends) or not 0 <= ends[0] <= ends[1] <= cells:
            raise BadRequest(
                f"{_shown(entry)} in {name} is not a cell number from 0 to {cells - 1}, nor a range of them."
            )


def check_gene_sets(request: Request) -> None:
    """Raise BadRequest for gene sets of another structure than cellxgene's page sends."""
    sets = _object(request).get("genesets")
    if not isinstance(sets, list) or not all(_is_gene_set(one) for one in sets):
        raise BadRequest("genesets must be a list of objects with geneset_name and genes, each with gene_symbol.")


def _is_gene_set(one: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("geneset_name"), str):
        return False
    genes = one.get("genes")
    return isinstance(genes, list) and all(
        isinstance(gene, dict) and isinstance(gene.get("gene_symbol"), str) for gene in genes
    )


def check_filter(request: Request) -> None:
    """Raise BadRequest for a request for genes without a filter."""
    if not isinstance(_object(request).get("filter"), dict):
        raise BadRequest("filter must say which genes are meant.")


def _object(request: Request) -> dict[str, Any]:
    try:
        content = request.get_json(silent=True)
    except RecursionError:
        content = None
    if not isinstance(content, dict):
        raise BadRequest("The request must hold a JSON object.")
    return content


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]
