"""What people see when something breaks: a whole gateway with real cellxgene behind it."""

import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import psutil
import pytest

from datasets import labels_body, write_dataset
from gateways import PAGE, SAME_SITE, Gateway, failed_page, running_gateway
from processes import gone
from waiting import until_now

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("faults")
    data = folder / "data"
    write_dataset(data / "fine.h5ad")
    write_dataset(data / "flat.h5ad", embedding=False)
    write_dataset(data / "options.h5ad")
    (data / "options.h5ad.cxg.yaml").write_text("max_categories_itmes: 3\n")
    (data / "text.h5ad").write_text("cell,gene\n")
    (data / "empty.h5ad").write_bytes(b"")
    with h5py.File(data / "other.h5ad", "w") as other:
        other["x"] = 1
    whole = (data / "fine.h5ad").read_bytes()
    (data / "cut.h5ad").write_bytes(whole[: len(whole) // 2])
    with running_gateway(folder, "--max-instances=20", python=sys.executable) as gateway:
        yield gateway


@pytest.fixture(autouse=True, scope="module")
def _before_the_check(gateway: Gateway, slow_gateway: Gateway) -> None:
    """Have the gateways running before a test's leftovers are counted."""


@pytest.mark.parametrize(
    ("name", "said", "then"),
    [
        ("flat", "no 2-D embedding, so there is nothing to draw", "/data/flat.h5ad --output new.h5ad"),
        ("text", "not an AnnData file", "Check that the file was copied completely"),
        ("empty", "not an AnnData file", "Check that the file was copied completely"),
        ("other", "not an AnnData file", "adata.write"),
        ("cut", "part of this file cannot be read", "Copy the file again"),
        ("options", "max_categories_itmes", "Correct the option"),
    ],
)
def test_a_file_that_cannot_be_shown_ends_on_a_page_with_the_reason_and_the_next_step(
    name: str, said: str, then: str, gateway: Gateway
) -> None:
    page = failed_page(gateway, name)
    assert f"{name}" in page
    assert said in page
    assert then in page


def test_the_card_of_a_broken_file_says_so_in_the_list(gateway: Gateway) -> None:
    def cards() -> dict[str, dict[str, object]]:
        return {card["label"]: card for card in gateway.get("/api/datasets").json["datasets"]}

    until_now(lambda: not any(card["pending"] for card in cards().values()))
    assert cards()["fine"]["problem"] is None
    for name, kind in {"flat": "NoEmbedding", "text": "NotH5ad", "cut": "DamagedFile"}.items():
        problem = cards()[name]["problem"]
        assert isinstance(problem, dict)
        assert problem["kind"] == kind
    assert "no 2-D embedding" in gateway.get("/", Accept="text/html").text


def serving(gateway: Gateway, name: str) -> psutil.Process:
    """The worker on a dataset."""
    found = [each for each in gateway.workers() if " ".join(each.cmdline()).endswith(f"/{name}.h5ad")]
    return found[0]


@pytest.fixture(scope="module")
def slow_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Its viewers take their time in every phase: nothing is loaded before them."""
    folder = tmp_path_factory.mktemp("slow")
    with running_gateway(folder, "--Gateway.preload_idle_seconds=0", python=sys.executable) as gateway:
        yield gateway


@pytest.mark.parametrize("phase", ["starting", "loading", "ready"])
def test_a_worker_killed_in_any_phase_is_told_of_and_comes_back_on_request(phase: str, slow_gateway: Gateway) -> None:
    gateway = slow_gateway
    data = Path(gateway.log).parent / "data"
    name = f"killed-{phase}"
    write_dataset(data / f"{name}.h5ad")
    address = f"/view/data/{name}.h5ad/"
    gateway.get(address, Accept="text/html")
    until_now(lambda: gateway.phase(f"data/{name}.h5ad") == phase, seconds=40)
    serving(gateway, name).kill()
    page = failed_page(gateway, name)
    assert "killed from outside, SIGKILL" in page
    (failed,) = [each for each in gateway.instances() if each["name"] == f"data/{name}.h5ad"]
    gateway.post(f"/api/instances/{failed['id']}/retry", {"_xsrf": gateway.xsrf()}, **PAGE, **SAME_SITE)
    until_now(lambda: gateway.phase(f"data/{name}.h5ad") == "ready", seconds=40)
    assert gateway.get(address + "api/v0.2/schema").json["schema"]["dataframe"]["nObs"] == 30


def test_a_file_replaced_while_open_is_the_new_file_at_the_next_visit(gateway: Gateway) -> None:
    data = Path(gateway.log).parent / "data"
    write_dataset(data / "changing.h5ad", cells=30)
    address = gateway.open("data/changing.h5ad")
    write_dataset(data / "beside.tmp", cells=40).replace(data / "changing.h5ad")
    assert gateway.get(address + "cxg-proxy/state").json["changed"] is True
    gateway.get(address, Accept="text/html")
    until_now(lambda: gateway.phase("data/changing.h5ad") == "ready", seconds=40)
    assert gateway.get(address + "api/v0.2/schema").json["schema"]["dataframe"]["nObs"] == 40


def test_labels_saved_through_the_gateway_survive_every_restart(gateway: Gateway) -> None:
    address = gateway.open("data/fine.h5ad")
    body = labels_body(30, "T cell")
    headers = {**SAME_SITE, "Content-Type": "application/octet-stream"}
    assert gateway.ask("PUT", address + "api/v0.2/annotations/obs", headers, body).status == 200
    folder = next((Path(gateway.log).parent / "labels").glob("fine-*"))
    assert "T cell" in (folder / "cell-labels.csv").read_text()
    serving(gateway, "fine").kill()
    failed_page(gateway, "fine")
    (failed,) = [each for each in gateway.instances() if each["name"] == "data/fine.h5ad"]
    gateway.post(f"/api/instances/{failed['id']}/retry", {"_xsrf": gateway.xsrf()}, **PAGE, **SAME_SITE)
    until_now(lambda: gateway.phase("data/fine.h5ad") == "ready", seconds=40)
    columns = gateway.get(address + "api/v0.2/schema").json["schema"]["annotations"]["obs"]["columns"]
    assert "mine" in [column["name"] for column in columns]
    until_now(lambda: any(card["labels_saved"] for card in gateway.get("/api/datasets").json["datasets"]))


def test_labels_that_cannot_be_saved_are_refused_aloud_and_the_old_ones_stand(gateway: Gateway) -> None:
    data = Path(gateway.log).parent / "data"
    shutil.copy(data / "fine.h5ad", data / "full.h5ad")
    address = gateway.open("data/full.h5ad")
    target = address + "api/v0.2/annotations/obs"
    assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "B cell")).status == 200
    worker = serving(gateway, "full")
    worker.rlimit(psutil.RLIMIT_FSIZE, (1, 1))  # what a full disk or quota is to a writer
    assert gateway.ask("PUT", target, SAME_SITE, labels_body(30, "lost cell")).status >= 400
    folder = next((Path(gateway.log).parent / "labels").glob("full-*"))
    assert "B cell" in (folder / "cell-labels.csv").read_text()
    assert not [each.name for each in folder.iterdir() if each.name.startswith(".cell-labels")]


def test_a_bomb_in_a_request_harms_nobody(gateway: Gateway) -> None:
    address = gateway.open("data/fine.h5ad")
    reply = gateway.ask("PUT", address + "api/v0.2/annotations/obs", SAME_SITE, bomb())
    assert reply.status == 413
    assert gateway.get(address + "api/v0.2/schema").status == 200


def bomb() -> bytes:
    """800 MB of zeros, compressed in pieces: less than 1 MB."""
    packing = zlib.compressobj(9)
    zeros = bytes(10_000_000)
    return b"".join(packing.compress(zeros) for _ in range(80)) + packing.flush()


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/no/such/python", "/no/such/python"),
        ("/usr/bin/false", "cellxgene cannot be started with this Python"),
    ],
)
def test_a_missing_viewer_environment_is_named(python: str, said: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, python=python) as gateway:
        assert said in failed_page(gateway, "pbmc")


@pytest.fixture
def bare_python(tmp_path: Path) -> str:
    """An environment without cellxgene and without cxg-proxy."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    return str(tmp_path / "bare" / "bin" / "python")


def test_a_viewer_environment_without_cxg_proxy_is_named_with_the_command_that_helps(
    bare_python: str, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "data" / "pbmc.h5ad")
    with running_gateway(tmp_path, python=bare_python) as gateway:
        page = failed_page(gateway, "pbmc")
        assert f"{bare_python} -m pip install" in page
        assert "cxg-proxy[viewer]" in page


def test_a_gateway_killed_outright_takes_real_workers_with_it(tmp_path: Path, short: Path) -> None:
    for name in ("open", "opening"):
        write_dataset(tmp_path / "data" / f"{name}.h5ad")
    with running_gateway(tmp_path, python=sys.executable, temporary=short) as gateway:
        gateway.open("data/open.h5ad")
        gateway.get("/view/data/opening.h5ad/", Accept="text/html")
        until_now(lambda: len([each for each in gateway.workers() if "serve" in each.cmdline()]) == 2)
        pids = [each.pid for each in gateway.workers()]
        gateway.process.send_signal(signal.SIGKILL)
        until_now(lambda: all(gone(pid) for pid in pids), seconds=10)
