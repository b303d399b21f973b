"""The gateway as a process: its options, where it listens, how it ends."""

import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import gone, until_now
from gateways import answers, running_gateway, viewer_python

COMMAND = [sys.executable, "-m", "cxg_proxy"]


def run(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(folder), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=10, cwd=folder, env=environment, check=False
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "pbmc.h5ad"
    file.write_bytes(b"")
    return file


def test_help_teaches_each_option(tmp_path: Path) -> None:
    said = run("--help", folder=tmp_path)
    assert said.returncode == 0
    for option in "socket ip port token library root home viewer-python idle-seconds max-instances title".split():
        assert f"--{option}" in said.stdout
    assert "--read-only" in said.stdout


def test_generate_config_writes_every_option_explained(tmp_path: Path) -> None:
    said = run("--generate-config", f"--config={tmp_path / 'c.py'}", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    text = (tmp_path / "c.py").read_text()
    assert "# c.Gateway.max_instances = 4" in text
    assert "# c.Gateway.viewer_options = {}" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["no-data.h5ad"], "no-data.h5ad: there is no such file"),
        (["a.h5ad", "b.h5ad"], "one dataset can be shown alone, not two"),
        (["a.h5ad", "--dataset=b.h5ad"], "one dataset can be shown alone, not two"),
        (["a.h5ad", "--library", "a=/tmp"], "leave --library and --remote out"),
        (["--labels-folder=/tmp"], "--labels-folder goes with one dataset"),
        (["--max-instances=0"], "max_instances"),
        (["--library", "a/b=/tmp"], "cannot name a library"),
        (["--port=99999999"], "port"),
        (["--socket=/no/such/folder/s"], "/no/such/folder/s"),
        (["--socket=/tmp/" + "x" * 120], "at most 107 bytes"),
        (["--max-instnces=1"], "--max-instnces"),
        (["--nonsense=1"], "no option --nonsense"),
    ],
)
def test_a_wrong_option_ends_with_a_sentence_and_no_traceback(options: list[str], said: str, tmp_path: Path) -> None:
    ended = run(*options, folder=tmp_path)
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_configuration_file_is_read_and_the_command_line_wins(tmp_path: Path, dataset: Path) -> None:
    config = tmp_path / "cxg_proxy_config.py"
    config.write_text("c.Gateway.title = 'Atlas of the institute'\nc.Gateway.max_instances = 1\n")
    (tmp_path / "data" / "b.h5ad").write_bytes(b"")
    with running_gateway(tmp_path, f"--config={config}", "--max-instances=2") as gateway:
        assert "Atlas of the institute" in gateway.get("/", Accept="text/html").text
        gateway.open("data/pbmc.h5ad")
        gateway.open("data/b.h5ad")  # the file's limit of 1 would refuse it


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c.Gateway.max_instances = 'many'\n", "max_instances"),
        ("c.Gateway.port = 70000\n", "port"),
        ("this is no Python\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_behind_a_host_a_wrong_configuration_is_a_page_and_at_a_terminal_a_sentence(
    text: str, said: str, tmp_path: Path, dataset: Path
) -> None:
    config = tmp_path / "cxg_proxy_config.py"
    config.write_text(text)
    with running_gateway(tmp_path, f"--config={config}") as gateway:
        page = gateway.get("/view/data/pbmc.h5ad/", Accept="text/html")
        assert page.status == 500
        assert said in page.text
        assert "Traceback" not in page.text
    ended = run(f"--config={config}", folder=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_instance_count_in_the_file_is_kept_where_the_command_line_says_nothing(
    tmp_path: Path, dataset: Path
) -> None:
    config = tmp_path / "cxg_proxy_config.py"
    config.write_text("c.Gateway.max_instances = 1\n")
    (tmp_path / "data" / "b.h5ad").write_bytes(b"")
    with running_gateway(tmp_path, f"--config={config}") as gateway:
        gateway.open("data/pbmc.h5ad")
        assert gateway.get("/view/data/b.h5ad/", Accept="text/html").status == 503


def test_the_socket_is_its_owners_alone_and_goes_with_the_gateway(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        assert stat.S_IMODE(os.stat(gateway.path).st_mode) == 0o600
        gateway.open("data/pbmc.h5ad")
        argv = next(each.cmdline() for each in gateway.workers() if "serve" in each.cmdline())
        worker = Path(argv[argv.index("--socket") + 1])
        assert stat.S_IMODE(worker.stat().st_mode) == 0o600
        assert stat.S_IMODE(worker.parent.stat().st_mode) == 0o700
        path = Path(gateway.path)
        gateway.process.terminate()
        gateway.process.wait(10)
        assert not path.exists()
        assert not worker.parent.exists()


def test_no_tcp_port_is_opened_behind_a_socket(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        gateway.open("data/pbmc.h5ad")
        serving = [each for each in gateway.workers() if "serve" in each.cmdline()]
        for process in [psutil.Process(gateway.process.pid), *serving]:
            assert process.net_connections("inet") == []


def test_a_socket_that_is_in_use_is_not_taken_over(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        ended = run(f"--socket={gateway.path}", folder=tmp_path)
        assert ended.returncode != 0
        assert "another program listens on this socket" in ended.stderr
        assert gateway.get("/api/health").status == 200


def test_a_socket_left_behind_is_replaced_and_a_file_is_not(tmp_path: Path, short: Path, dataset: Path) -> None:
    (short / "file").write_text("mine")
    ended = run(f"--socket={short / 'file'}", folder=tmp_path)
    assert "is no socket" in ended.stderr
    assert (short / "file").read_text() == "mine"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(short / "stale"))
    stale.close()
    process = subprocess.Popen([*COMMAND, f"--socket={short / 'stale'}", f"--library=d={tmp_path}"], cwd=tmp_path)
    until_now(lambda: answers(str(short / "stale")))
    process.terminate()
    assert process.wait(10) == 0


def test_a_port_that_is_in_use_is_said_to_be(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(f"--port={port}", folder=tmp_path)
    assert f"127.0.0.1 port {port}" in ended.stderr
    assert "in use" in ended.stderr
    assert "--port" in ended.stderr


@pytest.fixture
def on_tcp(tmp_path: Path, short: Path, dataset: Path) -> Iterator[tuple[str, str]]:
    """A gateway on a free port: its address and token, as printed."""
    log = tmp_path / "log"
    command = [*COMMAND, "--port=0", f"--library=data={tmp_path / 'data'}", f"--home={tmp_path / 'home'}"]
    command += [f"--viewer-python={viewer_python(short)}"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=tmp_path)
    until_now(lambda: "token=" in log.read_text())
    found = re.search(r"(http://\S+)\?token=(\S+)", log.read_text())
    assert found
    yield found[1], found[2]
    process.terminate()
    process.wait(10)


def ask(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:  # noqa: S310 - ours
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@pytest.mark.parametrize(
    "path", ["", "instances", "api/datasets", "api/instances", "view/data/pbmc.h5ad/", "metrics", "api/progress/x"]
)
def test_on_a_port_every_request_needs_the_token(path: str, on_tcp: tuple[str, str]) -> None:
    address, token = on_tcp
    assert ask(address + path)[0] == 403
    assert ask(address + path, Authorization=f"token {token}x")[0] == 403
    assert ask(address + path, Authorization=f"token {token}")[0] != 403
    assert ask(address + "view/data/pbmc.h5ad/api/v0.2/schema")[0] == 403


def test_the_cookie_of_a_printed_link_is_out_of_a_scripts_reach_and_follows_a_link_from_mail(
    on_tcp: tuple[str, str],
) -> None:
    address, token = on_tcp
    connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))
    connection.request("GET", f"/?token={token}")
    cookie = connection.getresponse().headers["Set-Cookie"]
    connection.close()
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_a_printed_link_to_nowhere_is_no_error_of_ours_and_leaves_no_token_in_the_log(
    on_tcp: tuple[str, str], tmp_path: Path
) -> None:
    address, token = on_tcp
    before = (tmp_path / "log").read_text()
    assert ask(f"{address}nothing?token={token}")[0] in (403, 404)
    assert (tmp_path / "log").read_text() == before


def test_the_printed_link_logs_a_browser_in_and_drops_the_token_from_the_address(on_tcp: tuple[str, str]) -> None:
    address, token = on_tcp
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(f"{address}?token={token}&q=pbmc") as reply:
        assert reply.url == f"{address}?q=pbmc"
    with opener.open(f"{address}api/datasets") as reply:
        assert reply.status == 200


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_gateway_and_every_worker_and_leaves_nothing(
    by: signal.Signals, tmp_path: Path, dataset: Path
) -> None:
    (tmp_path / "data" / "deaf.h5ad").write_bytes(b"")
    with running_gateway(tmp_path) as gateway:
        gateway.open("data/pbmc.h5ad")
        gateway.open("data/deaf.h5ad")
        pids = [each.pid for each in gateway.workers()]
        gateway.process.send_signal(by)
        assert gateway.process.wait(10) == 0
        assert all(gone(pid) for pid in pids)


def test_a_gateway_killed_outright_leaves_no_worker_and_the_next_one_clears_its_folder(
    tmp_path: Path, short: Path, dataset: Path
) -> None:
    (tmp_path / "data" / "slow.h5ad").write_bytes(b"")
    with running_gateway(tmp_path, temporary=short) as gateway:
        gateway.open("data/pbmc.h5ad")
        gateway.get("/view/data/slow.h5ad/", Accept="text/html")
        until_now(lambda: gateway.phase("data/slow.h5ad") == "loading")
        workers = gateway.workers()
        argv = next(each.cmdline() for each in workers if "serve" in each.cmdline())
        folder = Path(argv[argv.index("--socket") + 1]).parent
        gateway.process.kill()
        gateway.process.wait(10)
        until_now(lambda: all(gone(each.pid) for each in workers))
        assert folder.parent == short
    with running_gateway(tmp_path, temporary=short):
        assert not folder.exists()


def test_the_gateway_ends_with_the_process_that_started_it(tmp_path: Path, short: Path, dataset: Path) -> None:
    command = [*COMMAND, f"--socket={short / 's'}", f"--library=data={tmp_path / 'data'}"]
    program = f"import subprocess, sys; p = subprocess.Popen({command!r}); print(p.pid, flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, cwd=tmp_path)
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    until_now(lambda: answers(str(short / "s")))
    parent.kill()
    parent.wait()
    until_now(lambda: gone(pid))
    parent.stdin.close()
    parent.stdout.close()
    assert not (short / "s").exists()


def test_an_unused_gateway_ends_by_itself_with_status_0(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path, "--shutdown-when-idle-seconds=1.5") as gateway:
        gateway.open("data/pbmc.h5ad")
        assert gateway.process.wait(20) == 0


def test_a_signal_while_an_idle_viewer_is_closed_does_not_wait_twice(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "data" / "deaf.h5ad").write_bytes(b"")
    with running_gateway(tmp_path, "--idle-seconds=0.5") as gateway:
        gateway.open("data/deaf.h5ad")
        until_now(lambda: gateway.instances()[0]["phase"] == "closing")
        gateway.process.terminate()
        assert gateway.process.wait(10) == 0  # one ladder of 3 s, not two: see the next line of the log
        assert "does not end" not in gateway.log.read_text()


def test_a_folder_of_an_unknown_user_is_a_sentence_and_behind_a_host_a_styled_page(
    tmp_path: Path, dataset: Path
) -> None:
    ended = run("--library", "x=~nobody-of-this-name/d", folder=tmp_path)
    assert ended.returncode == 2
    assert "no such user" in ended.stderr
    with running_gateway(tmp_path, "--root=~nobody-of-this-name/d") as gateway:
        page = gateway.get("/", Accept="text/html")
        assert "no such user" in page.text
        assert page.headers["Content-Security-Policy"]
        assert gateway.get("/static/style.css").headers["Content-Type"] == "text/css"
        assert gateway.get("/api/datasets").problem["kind"] == "BadConfiguration"


def test_an_idle_viewer_is_closed_and_comes_back_at_the_next_visit(tmp_path: Path, dataset: Path) -> None:
    with running_gateway(tmp_path, "--idle-seconds=0.5") as gateway:
        gateway.open("data/pbmc.h5ad")
        until_now(lambda: all(each["phase"] == "closed" for each in gateway.instances()))
        gateway.open("data/pbmc.h5ad")


def test_the_gateway_is_small_and_imports_nothing_of_the_viewers(tmp_path: Path) -> None:
    program = (
        "import sys, cxg_proxy.app\n"
        "heavy = {'numpy', 'h5py', 'pandas', 'anndata', 'scipy', 'server', 'flask', 'yaml', 'cxg_proxy.viewer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=tmp_path) == "[]\n"


def test_a_gateway_in_use_stays_under_60_mb(tmp_path: Path, dataset: Path) -> None:
    for n in range(1000):
        (tmp_path / "data" / f"{n}.h5ad").write_bytes(b"")
    with running_gateway(tmp_path) as gateway:
        gateway.open("data/pbmc.h5ad")
        for page in range(1, 18):  # every card of every page, with its picture
            read = f"/api/datasets?folder=data&page={page}"
            until_now(lambda address=read: not any(card["pending"] for card in gateway.get(address).json["datasets"]))
        assert gateway.get(f"/{gateway.get('/api/datasets').json['datasets'][0]['preview']}").status == 200
        assert psutil.Process(gateway.process.pid).memory_info().rss < 60e6
