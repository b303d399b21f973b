"""A browser, or a proxy in front, keeps its connection: no reply of ours ends it without saying so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateways import PAGE, SAME_SITE, Gateway, UnixConnection, running_gateway

VIEWER = "/view/data/pbmc.h5ad/"
BODY = b"x" * 100_000


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    (tmp_path / "data").mkdir()
    for name in ("pbmc", "slow", "failing"):
        (tmp_path / "data" / f"{name}.h5ad").write_bytes(b"")
    with running_gateway(tmp_path) as running:
        running.open("data/pbmc.h5ad")
        yield running


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("GET", "/view/data/slow.h5ad/", PAGE, 200),  # the opening page
        ("GET", "/view/data/slow.h5ad", PAGE, 302),  # to the address with its slash
        ("HEAD", "/view/data/slow.h5ad/", PAGE, 200),
        ("GET", "/view/data/none.h5ad/", PAGE, 404),
        ("DELETE", "/view/data/pbmc.h5ad/", SAME_SITE, 405),
        ("GET", VIEWER, PAGE, 200),  # the worker's reply
        ("GET", VIEWER + "cxg-proxy/viewer.js", {}, 200),
        ("GET", VIEWER + "cxg-proxy/state", {}, 200),
        ("GET", VIEWER + "cxg-proxy/nothing", {}, 404),
        ("PUT", VIEWER + "api/v0.2/x", SAME_SITE, 200),
        ("PUT", VIEWER + "api/v0.2/x", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/annotations/data/pbmc.h5ad", PAGE, 200),
        ("GET", "/", PAGE, 200),
    ],
)
def test_the_same_connection_serves_the_next_request(
    method: str, target: str, headers: dict[str, str], status: int, gateway: Gateway
) -> None:
    with closing(UnixConnection(gateway.path)) as connection:
        for _ in range(3):
            connection.request(method, target, headers=headers, body=BODY if method == "PUT" else None)
            reply = connection.getresponse()
            reply.read()
            assert (reply.status, reply.headers["Connection"]) == (status, None)
            connection.auto_open = 0  # from now on, a closed connection is an error
