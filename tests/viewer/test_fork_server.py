"""The parent that has cellxgene imported, and the workers it forks: a whole gateway with real ones."""

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cxg_proxy.gateway.workers.usage import usage
from datasets import labels_body, write_dataset
from gateways import SAME_SITE, Gateway, Worker, failed_page, running_gateway, viewer_python
from processes import gone
from waiting import until_now

pytestmark = pytest.mark.timeout(120)
NAMES = ("one", "two", "three", "crashing", "labelled")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("preloaded")
    for name in NAMES:
        write_dataset(folder / "data" / f"{name}.h5ad")
    with running_gateway(folder, "--max-instances=20", python=sys.executable) as gateway:
        gateway.get("/", Accept="text/html")
        yield gateway


@pytest.fixture(autouse=True, scope="module")
def _before_the_check(gateway: Gateway) -> None:
    """Have the gateway running before a test's leftovers are counted."""


def parent_of(gateway: Gateway) -> Worker:
    """Where workers are forked."""
    until_now(lambda: [each for each in gateway.workers() if "preload" in each.cmdline()])
    (found,) = [each for each in gateway.workers() if "preload" in each.cmdline()]
    return found


def opened(gateway: Gateway, name: str) -> tuple[str, Worker]:
    """A viewer's address and its process."""
    address = gateway.open(f"data/{name}.h5ad")
    shown = [(each, " ".join(each.cmdline())) for each in gateway.workers()]
    (worker,) = [each for each, words in shown if " serve " in words and words.endswith(f"/{name}.h5ad")]
    return address, worker


@pytest.mark.hazard(16)
def test_the_list_has_a_parent_ready_and_a_viewer_is_forked_from_it(gateway: Gateway) -> None:
    parent = parent_of(gateway)
    address, worker = opened(gateway, "one")
    assert worker.ppid() == parent.pid
    assert gateway.get(address + "api/v0.2/schema").json["schema"]["dataframe"]["nObs"] == 30
    assert (gateway.log.parent / "logs" / "preload.log").read_text() == ""
    assert "Traceback" not in gateway.log.read_text()


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_a_forked_viewer_computes_and_saves(gateway: Gateway) -> None:
    address, worker = opened(gateway, "labelled")
    assert worker.ppid() == parent_of(gateway).pid
    sets = {
        f"set{n}": {"filter": {"obs": {"index": [[10 * n, 10 * n + 10]]}}} for n in (1, 2)
    }  # fmt: skip - one line for each set
    order = json.dumps({"mode": "topN", "count": 3, **sets})
    headers = {**SAME_SITE, "Content-Type": "application/json"}
    reply = gateway.ask("POST", address + "api/v0.2/diffexp/obs", headers, order)
    assert reply.status == 200, reply.text
    assert len(reply.json["positive"]) == 3
    headers["Content-Type"] = "application/octet-stream"
    assert gateway.ask("PUT", address + "api/v0.2/annotations/obs", headers, labels_body(30, "NK")).status == 200
    (folder,) = (gateway.log.parent / "labels").glob("labelled-*")
    assert "NK" in (folder / "cell-labels.csv").read_text()
    assert (folder / "cell-labels.csv").stat().st_mode & 0o777 == 0o600


def test_a_crash_is_told_and_reaches_neither_the_parent_nor_other_viewers(gateway: Gateway) -> None:
    address, _ = opened(gateway, "two")
    _, worker = opened(gateway, "crashing")
    parent = parent_of(gateway)
    worker.send_signal(signal.SIGSEGV)
    assert "it crashed on a memory error of its own, SIGSEGV" in failed_page(gateway, "crashing")
    assert gateway.get(address + "api/v0.2/schema").status == 200
    assert parent_of(gateway).pid == parent.pid
    _, another = opened(gateway, "three")
    assert another.ppid() == parent.pid


@pytest.mark.hazard(15)
def test_most_of_its_memory_is_shared_and_counted_once(gateway: Gateway) -> None:
    _, forked = opened(gateway, "one")
    _, other = opened(gateway, "two")
    memory = forked.memory_full_info()
    assert memory.uss < memory.rss / 3
    for each in (forked, other):
        now = usage(each.pid)
        assert now is not None
        assert 0 < now.memory < each.memory_info().rss / 1.5
    shown = [each["memory"] for each in gateway.instances() if each["name"] == "data/one.h5ad"]
    assert 0 < shown[0] < memory.rss / 1.5


def test_a_killed_parent_is_no_news_to_its_viewers_and_the_next_one_has_another(gateway: Gateway) -> None:
    address, _ = opened(gateway, "one")
    parent = parent_of(gateway)
    parent.kill()
    until_now(lambda: gone(parent.pid))
    assert gateway.get(address + "api/v0.2/schema").status == 200
    write_dataset(gateway.log.parent / "data" / "later.h5ad")
    later, _ = opened(gateway, "later")
    assert gateway.get(later + "api/v0.2/schema").status == 200
    gateway.get("/", Accept="text/html")
    assert parent_of(gateway).pid != parent.pid


def test_a_limit_of_memory_is_that_of_each_viewer_and_not_of_the_parent(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, "--memory-limit=3_000_000_000", python=sys.executable) as gateway:
        _, worker = opened(gateway, "pbmc")
        parent = parent_of(gateway)
        assert worker.ppid() == parent.pid
        assert worker.rlimit(resource.RLIMIT_DATA)[0] == 3_000_000_000
        assert parent.rlimit(resource.RLIMIT_DATA)[0] == psutil.RLIM_INFINITY


def test_one_dataset_alone_needs_no_parent(tmp_path: Path, short: Path) -> None:
    said = "no preloaded cellxgene"  # which the fake viewer never has
    file = write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, str(file), library=False) as gateway:
        gateway.open("dataset/pbmc.h5ad")
        assert said not in gateway.log.read_text()
    with running_gateway(tmp_path, python=str(viewer_python(short))) as gateway:
        gateway.open("data/pbmc.h5ad")
        assert said in gateway.log.read_text()


def test_the_parent_has_one_thread_and_leaves_next_to_nothing_to_import_to_its_workers(tmp_path: Path) -> None:
    file = write_dataset(tmp_path / "pbmc.h5ad")
    program = (
        "import json, os, sys; from pathlib import Path\n"
        "os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"  # as `preload` sets it
        "from cxg_proxy.viewer import fork_server\n"
        "fork_server.load(); list(fork_server.compiled()); threads = len(os.listdir('/proc/self/task'))\n"
        "import flask.testing; before = set(sys.modules)\n"
        "from cxg_proxy.viewer import serve\n"
        "order = serve.ServeOrder(sys.argv[1], sys.argv[2] + '/s', Path(sys.argv[2]), {})\n"
        "kept = []; listen = serve._listen\n"
        "serve._listen = lambda order, application: (kept.append(application), listen(order, application))\n"
        "serve._start(order, lambda step: None, serve._Ready(lambda step: None))\n"
        "client = kept[0].test_client()\n"
        "pages = ['/', '/api/v0.2/config', '/api/v0.2/schema', '/api/v0.2/layout/obs?layout-name=umap']\n"
        "head = {'Accept': '*/*', 'Accept-Encoding': 'gzip, br'}\n"
        "status = [client.get(page, headers=head).status_code for page in pages]\n"
        "print(json.dumps([threads, status, sorted(set(sys.modules) - before)]), flush=True); os._exit(0)\n"
    )
    said = subprocess.run([sys.executable, "-c", program, file, tmp_path], capture_output=True, text=True, check=True)
    threads, status, modules = json.loads(said.stdout)
    assert threads == 1
    assert status == [200] * 4
    assert len(modules) <= 2, modules
