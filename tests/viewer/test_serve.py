"""A worker from its first word to its end."""

import contextlib
import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import cxg_proxy
from places import CHECKOUT
from viewer_fixtures import Launched, Server, failure, until, worker

pytest_plugins = ["viewer_plugin"]


def test_it_tells_its_steps_in_order_and_answers_from_ready_on(large: Path) -> None:
    with worker(large, ready=False) as server:
        assert server.next_step() == {"phase": "starting", "version": cxg_proxy.__version__}
        server.wait_for("ready")
        assert server.api("config").status == 200
        phases = [step["phase"] for step in server.steps]
        assert phases == ["starting", *["loading"] * (len(phases) - 2), "ready"]
        shares = [step["done"] for step in server.steps if step["phase"] == "loading"]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert shares[-1] < 1


def test_its_first_word_comes_before_the_heavy_imports() -> None:
    code = "import sys, cxg_proxy.viewer.__main__, cxg_proxy.viewer.serve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=CHECKOUT).stdout.split()
    assert not {b"numpy", b"h5py", b"anndata", b"flask", b"server", b"waitress", b"pandas"} & set(loaded)


@pytest.mark.hazard(3)
def test_only_its_owner_can_connect_and_there_is_no_network(shown: Server, launched: Launched) -> None:
    assert stat.S_IMODE(os.stat(shown.socket).st_mode) == 0o600
    assert psutil.Process(shown.process.pid).net_connections("inet") == []
    listening = [one.laddr for one in launched.process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", launched.port)]


@pytest.mark.hazard(3)
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_somebody_else_on_the_machine_can_connect_to_plain_cellxgene_and_not_to_ours(
    shown: Server, launched: Launched
) -> None:
    become = "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "

    def as_somebody_else(code: str, where: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", become + code, str(where)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    theirs = as_somebody_else("socket.socket().connect(('127.0.0.1', int(sys.argv[1])))", launched.port)
    assert theirs.returncode == 0, theirs.stderr
    ours = as_somebody_else("socket.socket(socket.AF_UNIX).connect(sys.argv[1])", shown.socket)
    assert "PermissionError" in ours.stderr


def crowd(process: psutil.Process, address: object) -> tuple[int, http.client.HTTPResponse]:
    """What twenty connections that are open at once cost in threads, and what one after them is answered."""
    before = process.num_threads()
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(socket.socket(family))) for _ in range(21)]
        for client in clients:
            client.settimeout(30)
            client.connect(address)
            client.sendall(b"GET /api/v0.2/config HTTP/1.1\r\nHost: x\r\n")
        clients[-1].sendall(b"\r\n")
        reply = http.client.HTTPResponse(clients[-1])
        reply.begin()  # connections are accepted in order, so all of them are now
        return process.num_threads() - before, reply


@pytest.mark.hazard(2)
def test_many_connections_cost_no_more_threads(shown: Server) -> None:
    cost, reply = crowd(psutil.Process(shown.process.pid), str(shown.socket))
    assert cost <= 0
    assert reply.status == 200
    assert reply.headers["Server"] is None


@pytest.mark.hazard(2)
def test_plain_cellxgene_is_a_development_server_with_a_thread_for_each_connection(launched: Launched) -> None:
    cost, reply = crowd(launched.process, ("127.0.0.1", launched.port))
    assert cost >= 20
    assert reply.headers["Server"].startswith("Werkzeug/")


@pytest.mark.parametrize("end", ["leash", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_leaves_while_it_loads(large: Path, end: object) -> None:
    with worker(large, ready=False) as server:
        server.next_step()
        if end == "leash":
            server.process.stdin.close()
        else:
            server.process.send_signal(end)
        assert server.process.wait(30) == 0
        assert not server.socket.exists()


@pytest.mark.parametrize("end", ["leash", signal.SIGTERM])
def test_it_finishes_the_reply_it_gives_and_leaves(large: Path, end: object) -> None:
    with worker(large) as server, contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(30)
        client.connect(str(server.socket))
        genes = "&".join(f"var:name_0=gene{number}" for number in range(20))
        client.sendall(f"GET /api/v0.2/data/var?{genes} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".encode())
        assert client.recv(1, socket.MSG_PEEK)
        if end == "leash":
            server.process.stdin.close()
        else:
            server.process.send_signal(end)
        until(lambda: not server.socket.exists())
        reply = http.client.HTTPResponse(client)
        reply.begin()
        assert len(reply.read()) == int(reply.headers["Content-Length"]) > 20 * 4 * 40_000
        assert server.process.wait(30) == 0


def test_it_does_not_wait_for_ever_for_a_reader_who_stopped_reading(large: Path) -> None:
    with worker(large) as server, contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(server.socket))
        genes = "&".join(f"var:name_0=gene{number}" for number in range(20))
        client.sendall(f"GET /api/v0.2/data/var?{genes} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n".encode())
        assert client.recv(1, socket.MSG_PEEK)
        assert server.cut_leash() == 0


def test_it_says_when_it_cannot_listen(small: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    problem = failure(small, extra=["--socket", str(taken)])
    assert problem["kind"] == "CannotListen"
    assert taken.read_text() == "a file"


def test_a_dataset_beyond_its_memory_is_a_clear_problem(large: Path) -> None:
    problem = failure(large, extra=["--memory-limit", str(64 * 2**20)])
    assert problem["kind"] == "NotEnoughMemory"
    assert "the limit is 64 MiB" in problem["sentence"]


def test_what_others_print_goes_to_the_log_and_not_between_the_steps() -> None:
    code = (
        "import os; from cxg_proxy.viewer.child import channel; from cxg_proxy.steps import *;"
        "tell = channel(); os.write(1, b'noise'); print('more'); tell(Step(Phase.READY).line())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=CHECKOUT)
    assert told.stdout == b'{"phase": "ready"}\n'
    assert told.stderr == b"noisemore\n"


def test_no_cellxgene_in_its_python_is_a_clear_problem(small: Path, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text("raise ImportError('No module named server')")
    with worker(small, ready=False, path=tmp_path) as server:
        while (step := server.next_step())["phase"] != "failed":
            pass
    assert step["problem"]["kind"] == "ViewerMissing"
    assert step["problem"]["which"] == sys.executable
    assert "No module named server" in step["problem"]["sentence"]


def test_any_file_name_can_be_shown(small: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b'/-it\'s "a" {b} $HOME; <i>\n#?%41\xff\xfe.h5ad'
    with open(path, "wb") as file:
        file.write(small.read_bytes())
    with worker(path) as server:
        title = server.api("config").json["config"]["displayNames"]["dataset"]
        assert title.startswith('-it\'s "a" {b} $HOME; <i>')
        assert title.isprintable()
        assert server.ask("/health").json["status"] == "pass"
        assert server.cut_leash() == 0
