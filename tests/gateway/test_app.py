"""The gateway as a process: its options, and how it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateways import COMMAND, a_dataset, answers, run, running_gateway  # noqa: F401 - fixtures
from processes import gone
from waiting import until_now


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


def test_an_unused_gateway_stays_while_gene_expression_is_prepared(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "data" / "preparing.h5ad").write_bytes(b"")
    (tmp_path / "later" / "data").mkdir(parents=True)
    (tmp_path / "later" / "data" / "pbmc.h5ad").write_bytes(b"")
    option = "--shutdown-when-idle-seconds=1.5"
    with running_gateway(tmp_path, option) as gateway:
        gateway.open("data/preparing.h5ad")
        argv = next(each.cmdline() for each in gateway.workers() if "serve" in each.cmdline())
        with running_gateway(tmp_path / "later", option) as other:
            other.open("data/pbmc.h5ad")
            assert other.process.wait(20) == 0
        with pytest.raises(subprocess.TimeoutExpired):
            gateway.process.wait(1)  # a beat more than the other, which began later
        Path(f"{argv[argv.index('--socket') + 1]}.go").write_text('[null, ""]\n')
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
        "import sys, cxg_proxy.gateway.app\n"
        "heavy = {'numpy', 'h5py', 'pandas', 'anndata', 'scipy', 'server', 'flask', 'yaml', 'cxg_proxy.viewer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=tmp_path) == "[]\n"


def test_a_gateway_in_use_stays_under_60_mb(tmp_path: Path, dataset: Path) -> None:
    for n in range(1000):
        (tmp_path / "data" / f"{n}.h5ad").write_bytes(b"")
    with running_gateway(tmp_path, fresh=True) as gateway:
        gateway.open("data/pbmc.h5ad")
        for page in range(1, 18):  # every card of every page, with its picture
            read = f"/api/datasets?folder=data&page={page}"
            until_now(lambda address=read: not any(card["pending"] for card in gateway.get(address).json["datasets"]))
        assert gateway.get(f"/{gateway.get('/api/datasets').json['datasets'][0]['preview']}").status == 200
        assert psutil.Process(gateway.process.pid).memory_info().rss < 60e6
