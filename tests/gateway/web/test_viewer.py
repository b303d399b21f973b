"""The address of a dataset's viewer: opened, followed, cancelled, failed, closed, replaced."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gateways import PAGE, SAME_SITE, Serve, a_serve  # noqa: F401 - fixtures
from waiting import until_now


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


@pytest.mark.parametrize("change", [lambda file: file.write_bytes(b"more of it"), Path.unlink], ids=["more", "none"])
def test_a_file_that_changes_while_it_is_opened_is_said_to(
    change: Callable[[Path], object], serve: Serve, tmp_path: Path
) -> None:
    gateway = serve("slow")
    gateway.get("/view/data/slow.h5ad/", Accept="text/html")
    until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")
    change(tmp_path / "data" / "slow.h5ad")
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


def test_no_worker_is_told_the_token_of_a_link(serve: Serve) -> None:
    gateway = serve("pbmc")
    gateway.get("/view/data/pbmc.h5ad/?token=secret", Accept="text/html")
    until_now(lambda: gateway.phase("data/pbmc.h5ad") == "ready")
    assert gateway.get("/view/data/pbmc.h5ad/?token=secret").json["target"] == "/"
    asked = gateway.get("/view/data/pbmc.h5ad/api?a=1&token=secret&b=%20&c&mytoken=2")
    assert asked.json["target"] == "/api?a=1&b=%20&c&mytoken=2"
    reply = gateway.get("/view/data/pbmc.h5ad?token=secret", Accept="text/html")
    assert reply.headers["Location"] == "./pbmc.h5ad/"


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


def test_the_state_says_how_far_gene_expression_is_prepared(serve: Serve) -> None:
    gateway = serve("preparing", "pbmc")
    for name, share in (("preparing", 0.0), ("pbmc", None)):
        state = gateway.get(gateway.open(f"data/{name}.h5ad") + "cxg-proxy/state").json
        assert (state["phase"], state["preparing"], state["note"]) == ("ready", share, "")


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


def test_a_worker_that_dies_between_two_requests_fails_neither_silently_nor_for_ever(serve: Serve) -> None:
    gateway = serve("pbmc")
    address = gateway.open("data/pbmc.h5ad")
    for worker in gateway.workers():
        if "serve" in worker.cmdline():
            worker.send_signal(signal.SIGKILL)
    reply = gateway.get(address + "api", Accept="application/json")
    assert (reply.status, reply.problem["kind"]) == (503, "Died")
