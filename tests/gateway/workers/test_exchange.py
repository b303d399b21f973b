"""Exchanges through a whole gateway with the `mirror` worker behind it."""

import contextlib
import hashlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gateways import SAME_SITE, Gateway, UnixConnection, running_gateway
from waiting import until_now

HOP_BY_HOP = {
    "Connection": "close, X-Secret",
    "X-Secret": "1",
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "Proxy-Authorization": "Basic eDp5",
    "TE": "trailers",
    "Trailer": "X-Sum",
    "Upgrade": "h2c",
}
MB = 1_000_000
CHUNKED = {**SAME_SITE, "Transfer-Encoding": "chunked"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("forward")
    (folder / "data").mkdir()
    for name in ("mirror", "second-mirror"):
        (folder / "data" / f"{name}.h5ad").write_bytes(b"")
    with running_gateway(folder, "--Gateway.max_body=50000000") as gateway:
        gateway.open("data/mirror.h5ad")
        yield gateway


VIEW = "/view/data/mirror.h5ad/"


@pytest.fixture(scope="module", autouse=True)
def no_leftovers() -> None:
    """The gateway of this module outlives each test; running_gateway itself checks that it ends."""


def test_the_worker_sees_the_target_below_its_own_root(gateway: Gateway) -> None:
    seen = gateway.get(VIEW + "api/v0.2/data/var?var:name_0=A%2FB&x=%7B").json
    assert seen["target"] == "/api/v0.2/data/var?var:name_0=A%2FB&x=%7B"


def test_no_cookie_and_no_token_reach_a_worker(gateway: Gateway) -> None:
    seen = gateway.get(VIEW + "api", Cookie="jupyterhub=secret", Authorization="token secret", X_Kept="yes").json
    names = {name for name, _ in seen["headers"]}
    assert "x-kept" in names
    assert not names & {"cookie", "authorization"}
    assert "secret" not in json.dumps(seen["headers"])


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_no_hop_by_hop_header_passes_towards_the_worker(name: str, gateway: Gateway) -> None:
    connection = "close, X-Secret" if name == "X-Secret" else "close"
    seen = gateway.ask("GET", VIEW + "api", {"Connection": connection, name: HOP_BY_HOP[name]}).json
    assert name.lower() not in {header for header, _ in seen["headers"]}


@pytest.mark.parametrize("name", ["Set-Cookie", "Keep-Alive", "Proxy-Authenticate", "Trailer", "Upgrade"])
def test_no_cookie_and_no_hop_by_hop_header_leaves_a_worker(name: str, gateway: Gateway) -> None:
    reply = gateway.get(VIEW + f"api?header={name}:session%3D1&header=X-Kept:yes")
    assert reply.headers["X-Kept"] == "yes"
    assert name not in reply.headers


def test_a_reply_header_comes_once_and_the_safe_ones_are_added(gateway: Gateway) -> None:
    reply = gateway.get(VIEW + "api?header=X-Content-Type-Options:nosniff")
    for name in ("X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy"):
        assert len(reply.headers.get_all(name, [])) == 1, name


@pytest.mark.parametrize("status", [200, 201, 400, 404, 413, 500, 503])
def test_the_workers_status_is_passed_on(status: int, gateway: Gateway) -> None:
    assert gateway.get(VIEW + f"api?status={status}").status == status


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_every_method_is_passed_on(method: str, gateway: Gateway) -> None:
    reply = gateway.ask(method, VIEW + "api?header=X-Saw:it", {**SAME_SITE, "Content-Length": "0"})
    assert reply.status == 200
    assert reply.headers["X-Saw"] == "it"
    assert method == "HEAD" or reply.json["method"] == method


@pytest.mark.parametrize("chunked", ["", "&chunked=1"])
@pytest.mark.parametrize("size", [0, 1, 499, 500, 65_536, 5_000_001])
def test_a_reply_of_any_size_arrives_whole(size: int, chunked: str, gateway: Gateway) -> None:
    reply = gateway.get(VIEW + f"api?bytes={size}{chunked}")
    assert reply.body == (bytes(range(256)) * (size // 256 + 1))[:size]


def test_a_reply_of_300_mb_costs_the_gateway_no_memory(gateway: Gateway) -> None:
    process = psutil.Process(gateway.process.pid)
    before = peak(process)
    connection = UnixConnection(gateway.path)
    connection.request("GET", VIEW + f"api?bytes={300 * MB}")
    response = connection.getresponse()
    first = response.read(MB)
    got = len(first)
    while piece := response.read(MB):
        got += len(piece)
    connection.close()
    assert got == 300 * MB
    assert peak(process) - before < 16 * MB


def test_a_reader_that_pauses_makes_the_worker_wait_not_the_gateway_grow(gateway: Gateway) -> None:
    process = psutil.Process(gateway.process.pid)
    before = peak(process)
    connection = UnixConnection(gateway.path)
    connection.request("GET", VIEW + f"api?bytes={300 * MB}")
    response = connection.getresponse()
    response.read(1)
    worker = gateway.workers()[0]
    busy = [worker.cpu_times().user]
    until_now(lambda: settled(busy, worker))
    assert peak(process) - before < 16 * MB
    connection.close()


def settled(seen: list[float], worker: psutil.Process) -> bool:
    """Whether the worker has not moved for a few looks: it waits for its reader."""
    time.sleep(0.05)  # between two looks: the system counts in ticks of 10 ms
    seen.append(worker.cpu_times().user)
    return len(seen) > 6 and len(set(seen[-6:])) == 1


def peak(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_a_large_body_streams_to_the_worker(gateway: Gateway) -> None:
    process = psutil.Process(gateway.process.pid)
    before = peak(process)
    body = bytes(range(256)) * (40 * MB // 256)
    seen = gateway.ask("PUT", VIEW + "api", SAME_SITE, body).json
    assert (seen["bytes"], seen["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert peak(process) - before < 16 * MB


def test_a_chunked_body_arrives_whole(gateway: Gateway) -> None:
    pieces = [b"a" * 10, b"b" * 100_000, b"c"]
    connection = UnixConnection(gateway.path)
    connection.request("PUT", VIEW + "api", iter(pieces), CHUNKED, encode_chunked=True)
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert seen["sha256"] == hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.parametrize(("length", "body"), [("50000001", b"x" * 50_000_001), ("1000000001", b""), ("9" * 30, b"")])
def test_a_body_beyond_the_limit_never_reaches_the_worker(length: str, body: bytes, gateway: Gateway) -> None:
    headers = {**SAME_SITE, "Content-Length": length, "Accept": "application/json"}
    reply = gateway.ask("PUT", VIEW + "api", headers, body or None)
    assert reply.status == 413
    assert "larger than the limit" in reply.problem["sentence"]


def test_a_body_of_just_the_limit_arrives_whole(gateway: Gateway) -> None:
    assert gateway.ask("PUT", VIEW + "api", SAME_SITE, b"x" * 50_000_000).json["bytes"] == 50_000_000


def test_an_endless_chunked_body_is_cut_at_the_limit(gateway: Gateway) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65_536

    connection = UnixConnection(gateway.path)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.request("PUT", VIEW + "api", endless(), CHUNKED, encode_chunked=True)
    connection.close()
    assert gateway.get(VIEW + "api").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"])
def test_a_chunked_body_never_becomes_a_request_of_its_own(method: str, gateway: Gateway) -> None:
    smuggled = b"PUT /api/v0.2/annotations/obs HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    connection = UnixConnection(gateway.path)
    connection.request(method, VIEW + "api", iter([smuggled]), CHUNKED, encode_chunked=True)
    first = connection.getresponse()
    body = first.read()
    connection.close()
    if method in ("POST", "PUT", "PATCH"):
        assert json.loads(body)["bytes"] == len(smuggled)
    else:
        assert first.status == 400
    for n in range(4):
        assert gateway.get(VIEW + f"api?n={n}").json["target"] == f"/api?n={n}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("connection", ["close", "content-length", "keep-alive, Content-Length", "transfer-encoding"])
def test_a_body_where_none_belongs_never_becomes_a_request_of_its_own(
    method: str, connection: str, gateway: Gateway
) -> None:
    smuggled = b"GET /SMUGGLED?status=418 HTTP/1.1\r\nHost: x\r\n\r\n"
    headers = {"Connection": connection, "Content-Length": str(len(smuggled))}
    assert gateway.ask(method, VIEW + "api", headers, smuggled).status == 400
    for n in range(4):
        assert gateway.get(VIEW + f"api?n={n}").json["target"] == f"/api?n={n}"


@pytest.mark.parametrize("name", ["content-length", "host"])
def test_a_save_whose_connection_header_names_its_framing_is_refused(name: str, gateway: Gateway) -> None:
    assert gateway.ask("PUT", VIEW + "api", {**SAME_SITE, "Connection": name}, b"x").status == 400


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity", "xchunked"])
def test_a_body_of_unknown_framing_is_refused(coding: str, gateway: Gateway) -> None:
    with contextlib.suppress(ConnectionError, http.client.HTTPException):
        reply = gateway.ask("PUT", VIEW + "api", {**SAME_SITE, "Transfer-Encoding": coding})
        assert reply.status >= 400
    assert gateway.get(VIEW + "api?n=1").json["target"] == "/api?n=1"


def test_uploads_that_break_off_leave_nothing_behind(gateway: Gateway) -> None:
    for _ in range(30):
        connection = UnixConnection(gateway.path)
        connection.putrequest("PUT", VIEW + "api")
        for name, value in {**SAME_SITE, "Content-Length": "1000000"}.items():
            connection.putheader(name, value)
        connection.endheaders(b"x" * 1000)
        connection.close()
    until_now(lambda: gateway.get("/api/instances").json["instances"][0]["exchanges"] == 0)


def test_connections_to_the_worker_are_kept_alive(gateway: Gateway) -> None:
    assert len({gateway.get(VIEW + "api").json["connection"] for _ in range(10)}) <= 2


def test_a_connection_that_died_while_idle_costs_no_request(gateway: Gateway) -> None:
    for _ in range(5):
        assert gateway.get(VIEW + "api?header=Connection:close").status == 200
        assert gateway.get(VIEW + "api").status == 200


@pytest.mark.parametrize("chunked", ["", "&chunked=1"])
def test_a_reply_that_breaks_off_does_not_look_complete(chunked: str, gateway: Gateway) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        gateway.get(VIEW + f"api?bytes={MB}&stop=1{chunked}")


def test_when_the_client_goes_the_worker_is_told(gateway: Gateway, tmp_path: Path) -> None:
    connection = UnixConnection(gateway.path)
    connection.request("GET", VIEW + f"api?bytes={3000 * MB}")
    connection.getresponse().read(MB)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    note = cut_note(gateway)
    until_now(note.exists)
    assert int(note.read_text()) < 3000 * MB
    note.unlink()
    until_now(lambda: gateway.get("/api/instances").json["instances"][0]["phase"] == "ready")


def cut_note(gateway: Gateway) -> Path:
    arguments = json.loads(gateway.get(VIEW + "api").json["environment"]["ARGUMENTS"])
    return Path(arguments[arguments.index("--socket") + 1] + ".cut")


def test_two_workers_do_not_share_a_connection(gateway: Gateway) -> None:
    gateway.open("data/second-mirror.h5ad")
    pids = {gateway.get(f"/view/data/{name}.h5ad/api").json["pid"] for name in ("mirror", "second-mirror")}
    assert len(pids) == 2


def test_a_worker_knows_no_token_of_its_surroundings(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mirror.h5ad").write_bytes(b"")
    secrets = dict.fromkeys(("JUPYTERHUB_API_TOKEN", "JUPYTER_TOKEN", "GALAXY_API_KEY", "JPY_API_TOKEN"), "secret")
    with running_gateway(tmp_path, **secrets) as gateway:
        gateway.open("data/mirror.h5ad")
        seen = gateway.get(VIEW + "api").json["environment"]
    assert seen["HOME"]
    assert "secret" not in json.dumps(seen)
