"""Addresses, refusals and replies of a whole gateway with fake workers behind it."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from cxg_proxy.gateway.library.dataset import escape
from datasets import HOSTILE
from gateways import PAGE, SAME_SITE, Gateway, Serve, UnixConnection, a_serve, running_gateway  # noqa: F401 - fixtures
from waiting import until_now


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with an open dataset, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "data").mkdir()
    for name in ["pbmc.h5ad", *HOSTILE]:
        (folder / "data" / name).write_bytes(b"")
    with running_gateway(folder, "--max-instances=50") as gateway:
        gateway.open("data/pbmc.h5ad")
        yield gateway


@pytest.fixture(autouse=True, scope="module")
def _before_the_check(shared: Gateway) -> None:
    """Have the shared gateway running before a test's leftovers are counted."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_opens_by_its_link_and_by_a_typed_address(name: str, shared: Gateway) -> None:
    cards = shared.get("/api/datasets").json["datasets"]
    (card,) = [card for card in cards if card["href"] == f"view/data/{escape(name)}/"]
    assert card["phase"] in ("", "ready")
    assert shared.get("/", Accept="text/html").status == 200
    shared.open("data/" + escape(name))
    typed = shared.get(f"/view/data/{quote(os.fsencode(name))}/api")
    arguments = json.loads(typed.json["environment"]["ARGUMENTS"])
    assert os.fsencode(arguments[-1]).endswith(os.fsencode("/data/" + name))


@pytest.mark.parametrize(
    "next_", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_form_cannot_lead_away_from_the_gateway(next_: str, serve: Serve) -> None:
    gateway = serve("pbmc")
    gateway.open("data/pbmc.h5ad")
    (instance,) = gateway.instances()
    fields = {"_xsrf": gateway.xsrf(), "next": quote(next_)}
    reply = gateway.post(f"/api/instances/{instance['id']}/stop", fields, **PAGE, **SAME_SITE)
    assert reply.headers["Location"].startswith("../../../")
    assert "evil.example" not in reply.headers["Location"].replace("../../../evil.example/", "")
    assert ":" not in reply.headers["Location"]


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({}, {"Sec-Fetch-Site": "same-origin"}),
        ({"_xsrf": "wrong"}, {"Sec-Fetch-Site": "same-origin"}),
        ({"_xsrf": "right"}, {"Sec-Fetch-Site": "cross-site"}),
        ({"_xsrf": "right"}, {"Sec-Fetch-Site": "same-site"}),
        ({"_xsrf": "right"}, {"Origin": "https://evil.example"}),
        ({}, {}),
    ],
)
def test_a_change_needs_our_own_page_and_its_token(
    fields: dict[str, str], headers: dict[str, str], shared: Gateway
) -> None:
    instance = shared.instances()[0]
    right = {name: shared.xsrf() if value == "right" else value for name, value in fields.items()}
    reply = shared.post(f"/api/instances/{instance['id']}/stop", right, **headers)
    assert reply.status == 403
    assert shared.instances()[0]["phase"] == "ready"


@pytest.mark.parametrize("action", ["stop", "retry"])
def test_no_state_changes_by_get(action: str, shared: Gateway) -> None:
    instance = shared.instances()[0]
    assert shared.get(f"/api/instances/{instance['id']}/{action}").status == 405


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost:81"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Authorization": "token abc"}, False),
        ({"Authorization": "token abc"}, True),
        ({"Authorization": "Basic abc"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_the_worker_hears_changes_from_its_own_page_only(
    method: str, headers: dict[str, str], passes: bool, shared: Gateway
) -> None:
    reply = shared.ask(method, "/view/data/pbmc.h5ad/api/v0.2/annotations/obs", headers, b"x")
    assert reply.status == (200 if passes else 403)


@pytest.mark.parametrize(
    "address", ["/", "/instances", "/nope", "/api/datasets", "/view/data/gone.h5ad/", "/static/style.css"]
)
def test_every_reply_binds_the_browser(address: str, shared: Gateway) -> None:
    reply = shared.get(address, Accept="text/html")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Referrer-Policy"] == "same-origin"
    assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in reply.headers
    assert "Set-Cookie" not in reply.headers
    if not address.startswith("/static"):
        said = (each.strip().partition(" ") for each in reply.headers["Content-Security-Policy"].split(";"))
        assert {name: sources for name, _, sources in said} == {
            **dict.fromkeys(("default-src", "base-uri"), "'none'"),
            **dict.fromkeys(("style-src", "script-src", "connect-src", "form-action", "frame-ancestors"), "'self'"),
            "img-src": "'self' data:",
        }


@pytest.mark.parametrize(
    "address",
    [
        "/nope",
        "/view/data/gone.h5ad/",
        "/view/data/",
        "/view/data/..%2Fx.h5ad/",
        "/api/progress/data/gone.h5ad",
        "/view/x",
    ],
)
def test_what_does_not_exist_is_a_page_that_says_so(address: str, shared: Gateway) -> None:
    page = shared.get(address, Accept="text/html")
    assert page.status == 404
    assert shared.get(address, Accept="application/json").problem["steps"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_a_picture_on_another_site_starts_no_viewer(headers: dict[str, str], serve: Serve) -> None:
    gateway = serve("pbmc")
    for below in ("", "static/a.png", "api/v0.2/schema"):
        assert gateway.ask("GET", f"/view/data/pbmc.h5ad/{below}", headers).status == 403
    assert gateway.ask("HEAD", "/view/data/pbmc.h5ad/").status == 200
    assert gateway.instances() == []
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
    assert gateway.ask("GET", "/view/data/pbmc.h5ad/", link).status == 200
    assert len(gateway.instances()) == 1


def test_a_person_whose_form_is_outdated_sees_a_page_and_a_way_on(serve: Serve) -> None:
    gateway = serve("pbmc")
    gateway.open("data/pbmc.h5ad")
    (instance,) = gateway.instances()
    target = f"/api/instances/{instance['id']}/stop"
    page = gateway.post(target, {"_xsrf": "of-yesterday"}, **PAGE, **SAME_SITE)
    assert (page.status, page.headers["Content-Type"]) == (403, "text/html; charset=UTF-8")
    again = gateway.get(target, Accept="text/html")
    assert (again.status, again.headers["Location"]) == (302, "../../../view/data/pbmc.h5ad/")


def test_large_forms_are_refused_before_they_are_held(serve: Serve) -> None:
    gateway = serve("pbmc")
    connection = UnixConnection(gateway.path)
    with contextlib.suppress(ConnectionError):
        connection.request("POST", "/nope", b"x" * 100_000_000, {"Content-Type": "application/x-www-form-urlencoded"})
    connection.close()
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 60_000


def test_health_and_metrics_answer_probes(serve: Serve) -> None:
    gateway = serve("pbmc")
    gateway.open("data/pbmc.h5ad")
    assert gateway.get("/api/health").json["status"] == "ok"
    assert 'cxg_proxy_instances{phase="ready"} 1' in gateway.get("/metrics").text


def test_the_instances_page_says_what_each_uses(serve: Serve) -> None:
    gateway = serve("pbmc")
    gateway.open("data/pbmc.h5ad")
    (row,) = gateway.instances()
    assert row["memory"] > 1_000_000
    assert "data/pbmc.h5ad" in gateway.get("/instances", Accept="text/html").text


def test_an_open_event_stream_ends_when_its_reader_goes(serve: Serve) -> None:
    gateway = serve("slow")
    gateway.get("/view/data/slow.h5ad/", Accept="text/html")
    connection = UnixConnection(gateway.path)
    connection.request("GET", "/api/progress/data/slow.h5ad", headers={"Accept": "text/event-stream"})
    connection.getresponse().readline()
    until_now(lambda: readers(gateway) == 1)
    connection.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
    connection.close()
    until_now(lambda: readers(gateway) == 0)


def readers(gateway: Gateway) -> int:
    """Connections that the gateway holds on its socket."""
    return (
        len(
            [each for each in psutil.Process(gateway.process.pid).net_connections("unix") if each.laddr == gateway.path]
        )
        - 1
    )
