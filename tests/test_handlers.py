"""Addresses, pages and refusals of a whole gateway with fake workers behind it."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from conftest import until_now
from cxg_proxy import errors
from cxg_proxy.handlers import status_of
from cxg_proxy.library import escape
from gateways import PAGE, SAME_SITE, Gateway, UnixConnection, running_gateway
from test_library import HOSTILE

Serve = Callable[..., Gateway]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a gateway on datasets of these names."""
    with contextlib.ExitStack() as stack:

        def start(*names: str, options: tuple[str, ...] = ()) -> Gateway:
            for name in names:
                file = tmp_path / "data" / f"{name}.h5ad"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(b"")
            return stack.enter_context(running_gateway(tmp_path, *options))

        yield start


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


def test_every_problem_has_a_status_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Problem)]
    said = {kind.__name__: status_of(kind("x")) for kind in kinds}
    # Only what nobody could foresee, and what is wrong with the gateway itself, is an internal error.
    internal = {name for name, status in said.items() if status == 500}
    assert internal == {"Problem", "BadConfiguration", "CannotListen"}


def test_the_list_shows_each_dataset_and_its_json_twin_says_the_same(serve: Serve) -> None:
    gateway = serve("pbmc", "sub/lung")
    page = gateway.get("/", Accept="text/html").text
    twin = gateway.get("/api/datasets").json
    for card in twin["datasets"]:
        assert f'href="{card["href"]}"' in page
    assert [card["name"] for card in twin["datasets"]] == ["data/pbmc.h5ad", "data/sub/lung.h5ad"]


def test_summaries_appear_when_they_have_been_read(serve: Serve) -> None:
    gateway = serve("pbmc")
    until_now(lambda: gateway.get("/api/datasets").json["datasets"][0]["cells"] == 3)
    preview = gateway.get("/api/preview/data/pbmc.h5ad")
    assert preview.headers["Content-Type"].startswith("image/svg+xml")
    assert "#aa0000" in preview.text


def test_search_sort_and_pages(serve: Serve) -> None:
    gateway = serve(*(f"set-{n:03}" for n in range(70)), "lung")
    assert [card["label"] for card in gateway.get("/api/datasets?q=LUN").json["datasets"]] == ["lung"]
    first = gateway.get("/api/datasets?folder=data").json
    assert (len(first["datasets"]), first["pages"], first["total"]) == (60, 2, 71)
    assert len(gateway.get("/api/datasets?folder=data&page=2").json["datasets"]) == 11
    assert gateway.get("/api/datasets?folder=data&page=99&sort=nonsense").json["page"] == 2
    assert gateway.get("/?q=%3Cscript%3E&page=-1&folder=..", Accept="text/html").status == 200


def test_the_largest_come_first_even_from_pages_that_were_never_shown(serve: Serve) -> None:
    gateway = serve(*(f"set-{n:03}" for n in range(1, 71)))
    first = "/api/datasets?sort=cells"
    until_now(lambda: gateway.get(first).json["datasets"][0]["cells"] == 70)
    assert [card["cells"] for card in gateway.get(first).json["datasets"][:3]] == [70, 69, 68]


def test_a_new_file_is_seen_at_the_next_look(serve: Serve, tmp_path: Path) -> None:
    gateway = serve("pbmc")
    (tmp_path / "data" / "new.h5ad").write_bytes(b"")
    until_now(lambda: len(gateway.get("/api/datasets").json["datasets"]) == 2)


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


def test_a_viewers_address_without_its_slash_is_completed(serve: Serve) -> None:
    reply = serve("pbmc").get("/view/data/pbmc.h5ad?x=1", Accept="text/html")
    assert (reply.status, reply.headers["Location"]) == (302, "./pbmc.h5ad/?x=1")


def test_a_typed_address_leads_to_the_one_that_all_links_use(serve: Serve) -> None:
    gateway = serve("sub/a b:c")
    reply = gateway.get("/view/data/sub/a%20b:c.h5ad/?x=1", Accept="text/html")
    assert (reply.status, reply.headers["Location"]) == (302, "../../../../view/data/sub/a~20b~3Ac.h5ad/?x=1")
    assert gateway.instances() == []


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_a_viewers_own_address_is_only_looked_at(method: str, serve: Serve) -> None:
    gateway = serve("pbmc")
    assert gateway.ask(method, "/view/data/pbmc.h5ad/", SAME_SITE).status == 405
    assert gateway.ask("HEAD", "/view/data/gone.h5ad/").status == 404


def test_a_viewer_that_took_long_to_open_is_not_idle_at_once(serve: Serve) -> None:
    gateway = serve("slow", options=("--idle-seconds=3",))
    gateway.get("/view/data/slow.h5ad/", Accept="text/html")
    until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")
    before = gateway.instances()[0]["used"]
    socket_ = next(arg for each in gateway.workers() for arg in each.cmdline() if arg.endswith(".sock"))
    Path(f"{socket_}.go").touch()
    until_now(lambda: gateway.phase("data/slow.h5ad") == "ready")
    assert gateway.instances()[0]["used"] > before


def test_a_file_that_changes_while_it_is_opened_is_said_to(serve: Serve, tmp_path: Path) -> None:
    gateway = serve("slow")
    gateway.get("/view/data/slow.h5ad/", Accept="text/html")
    until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")
    (tmp_path / "data" / "slow.h5ad").write_bytes(b"more of it")
    socket_ = next(arg for each in gateway.workers() for arg in each.cmdline() if arg.endswith(".sock"))
    Path(f"{socket_}.go").touch()
    until_now(lambda: gateway.instances()[0]["problem"])
    assert gateway.instances()[0]["problem"]["kind"] == "ChangedMeanwhile"


def test_the_opening_page_shows_until_the_viewer_is_ready(serve: Serve) -> None:
    gateway = serve("slow")
    address = "/view/data/slow.h5ad/"
    page = gateway.get(address, Accept="text/html")
    assert (page.status, page.headers["Cache-Control"]) == (200, "no-store")
    assert "Cancel" in page.text
    until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")
    (instance,) = gateway.instances()
    socket = next(arg for each in gateway.workers() for arg in each.cmdline() if arg.endswith(".sock"))
    Path(f"{socket}.go").touch()
    until_now(lambda: gateway.phase("data/slow.h5ad") == "ready")
    assert gateway.get(address).json["target"] == "/"
    assert gateway.instances()[0]["id"] == instance["id"]


def test_progress_streams_until_ready(serve: Serve) -> None:
    gateway = serve("pbmc")
    gateway.get("/view/data/pbmc.h5ad/", Accept="text/html")
    stream = gateway.get("/api/progress/data/pbmc.h5ad", Accept="text/event-stream")
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in stream.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["phase"] == "ready"


def test_cancel_stops_what_is_being_opened_and_leads_back(serve: Serve) -> None:
    gateway = serve("slow")
    gateway.get("/view/data/slow.h5ad/", Accept="text/html")
    (instance,) = gateway.instances()
    reply = gateway.post(
        f"/api/instances/{instance['id']}/stop", {"_xsrf": gateway.xsrf(), "next": "../../../"}, **PAGE, **SAME_SITE
    )
    assert (reply.status, reply.headers["Location"]) == (303, "../../../")
    assert not [each for each in gateway.workers() if "serve" in each.cmdline()]
    assert gateway.instances() == []


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
    assert "Server" not in reply.headers
    assert "Set-Cookie" not in reply.headers
    if not address.startswith("/static"):
        assert "frame-ancestors 'self'" in reply.headers["Content-Security-Policy"]
        assert "unsafe" not in reply.headers["Content-Security-Policy"]


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


def test_a_failed_viewer_shows_why_and_starts_again_only_by_try_again(serve: Serve) -> None:
    gateway = serve("crashing")
    address = "/view/data/crashing.h5ad/"
    gateway.get(address, Accept="text/html")
    until_now(lambda: gateway.phase("data/crashing.h5ad") == "failed")
    page = gateway.get(address, Accept="text/html")
    assert page.status == 503
    for said in ("exit status 3", "the file is made of cheese", "Try again"):
        assert said in page.text
    (before,) = gateway.instances()
    assert gateway.get(address + "api/v0.2/schema", Accept="application/json").problem["kind"] == "Died"
    assert gateway.instances()[0]["id"] == before["id"]
    reply = gateway.post(f"/api/instances/{before['id']}/retry", {"_xsrf": gateway.xsrf()}, **PAGE, **SAME_SITE)
    assert (reply.status, reply.headers["Location"]) == (303, "../../../view/data/crashing.h5ad/")
    assert gateway.instances()[0]["id"] != before["id"]


def test_a_worker_killed_while_it_serves_is_told_of(serve: Serve) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    reply = gateway.get(address + "api?die=1", Accept="application/json")
    assert reply.status == 503
    assert "SIGKILL" in reply.problem["sentence"]
    assert "SIGKILL" in gateway.get(address, Accept="text/html").text


def test_a_request_of_an_open_tab_wakes_a_viewer_that_was_closed(serve: Serve) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    (instance,) = gateway.instances()
    gateway.post(f"/api/instances/{instance['id']}/stop", {"_xsrf": gateway.xsrf()}, **SAME_SITE)
    assert gateway.get(address + "cxg-proxy/state").json["phase"] == "closed"
    body = b"labels of a whole afternoon"
    assert gateway.ask("PUT", address + "api/v0.2/annotations/obs", SAME_SITE, body).json["bytes"] == len(body)


def test_the_state_says_when_the_file_was_replaced(serve: Serve, tmp_path: Path) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    assert gateway.get(address + "cxg-proxy/state").json["changed"] is False
    (tmp_path / "new").write_bytes(b"other cells")
    (tmp_path / "new").replace(tmp_path / "data" / "pbmc.h5ad")
    assert gateway.get(address + "cxg-proxy/state").json["changed"] is True
    assert "Cancel" in gateway.get(address, Accept="text/html").text  # a visit opens the new file


def test_the_state_leads_to_the_library_from_any_depth(serve: Serve) -> None:
    gateway = serve("a/b/pbmc")
    address = gateway.open("data/a/b/pbmc.h5ad")
    assert gateway.get(address + "cxg-proxy/state").json["library"] == "../../../../../../"


def test_a_page_of_a_replaced_file_cannot_save_into_its_successor(serve: Serve, tmp_path: Path) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    old = gateway.get(address + "cxg-proxy/state").json["version"]
    for script in ("saves.js", "viewer.js"):
        assert f'globalThis.OPENED = "{old}";' in gateway.get(address + f"cxg-proxy/{script}").text
    (tmp_path / "new").write_bytes(b"other cells")
    (tmp_path / "new").replace(tmp_path / "data" / "pbmc.h5ad")
    gateway.open("data/pbmc.h5ad")  # in a second tab
    new = gateway.get(address + "cxg-proxy/state").json["version"]
    target = address + "api/v0.2/annotations/obs"
    refused = gateway.ask("PUT", target, {**SAME_SITE, "X-Dataset-Version": old}, b"labels")
    assert (refused.status, refused.problem["kind"]) == (409, "Replaced")
    assert gateway.ask("PUT", target, {**SAME_SITE, "X-Dataset-Version": new}, b"labels").status == 200


def test_a_viewer_restarted_on_the_same_file_takes_the_old_pages_labels(serve: Serve) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    version = gateway.get(address + "cxg-proxy/state").json["version"]
    (instance,) = gateway.instances()
    gateway.post(f"/api/instances/{instance['id']}/stop", {"_xsrf": gateway.xsrf()}, **SAME_SITE)
    headers = {**SAME_SITE, "X-Dataset-Version": version}
    assert gateway.ask("PUT", address + "api/v0.2/annotations/obs", headers, b"labels").status == 200


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


def test_the_logo_is_found_one_level_above_the_viewer(serve: Serve) -> None:
    gateway = serve("a/pbmc")
    gateway.open("data/a/pbmc.h5ad")
    assert gateway.get("/view/data/a/static/assets/icon-1.png").json["target"] == "/static/assets/icon-1.png"
    assert gateway.get("/view/data/static/assets/icon-1.png").status == 404


def test_when_all_places_are_in_use_the_page_lists_them_with_stop_buttons(serve: Serve) -> None:
    gateway = serve("a", "b", options=("--max-instances=1",))
    gateway.open("data/a.h5ad")
    page = gateway.get("/view/data/b.h5ad/", Accept="text/html")
    assert page.status == 503
    assert f"api/instances/{gateway.instances()[0]['id']}/stop" in page.text
    assert gateway.get("/view/data/b.h5ad/api", Accept="application/json").problem["kind"] == "TooManyInstances"


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


def test_a_worker_that_dies_between_two_requests_fails_neither_silently_nor_for_ever(serve: Serve) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    for worker in gateway.workers():
        if "serve" in worker.cmdline():
            worker.send_signal(signal.SIGKILL)
    reply = gateway.get(address + "api", Accept="application/json")
    assert (reply.status, reply.problem["kind"]) == (503, "Died")


def test_the_list_of_1000_datasets_is_cut_into_pages_of_bounded_size(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for n in range(1000):
        (tmp_path / "data" / f"{n:04}.h5ad").write_bytes(b"")
    gateway = serve()
    until_now(lambda: gateway.get("/api/datasets?folder=data").json["total"] == 1000)
    assert len(gateway.get("/?folder=data", Accept="text/html").body) < 200_000


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
