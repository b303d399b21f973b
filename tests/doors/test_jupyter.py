"""The Jupyter door, in a real Jupyter server; no viewer is started here."""

from __future__ import annotations

import atexit
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from jupyter_fixtures import JupyterServer, jupyter_server, wait_until

from cxg_proxy.doors import jupyter

POLLED = ["api/find?path=plain.h5ad", "api/health", "api/instances", "api/progress/home/plain.h5ad", "metrics"]
HOSTILE = ["plain.h5ad", "a#1.h5ad", "a?b.h5ad", "50% {x} 'q'.h5ad", "Zellen für Ana.h5ad", "line\nbreak.h5ad"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with names that need care; it also holds a trap for `python -m`."""
    folder = tmp_path_factory.mktemp("door") / "my {work} 100%"
    folder.mkdir()
    for name in HOSTILE:
        (folder / name).write_bytes(b"its content does not matter here")
    (folder / "json.py").write_text("raise SystemExit('the wrong json')")
    return folder


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    with jupyter_server(tmp_path_factory.mktemp("jupyter"), root) as running:
        running.get("cellxgene/").raise_for_status()
        yield running


Described = Callable[[], dict[str, Any]]


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> Iterator[Described]:
    """Ask the door as a Jupyter server would, whose end is the end of the test."""
    endings: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", endings.append)
    yield jupyter.setup
    for end in endings:
        end()


def tile(server: JupyterServer) -> dict[str, object]:
    found = server.get("server-proxy/servers-info").json()["server_processes"]
    return next(each for each in found if each["name"] == "cellxgene")


def test_jupyter_offers_the_tile_with_our_icon(server: JupyterServer) -> None:
    entry = tile(server)["launcher_entry"]
    assert isinstance(entry, dict)
    assert (entry["title"], entry["category"], entry["enabled"]) == ("cellxgene", "Notebook", True)
    icon = server.get(str(entry["icon_url"]))
    assert icon.headers["content-type"] == "image/svg+xml"
    assert icon.text.startswith("<svg")


def test_the_tile_opens_a_browser_tab_of_its_own(server: JupyterServer) -> None:
    assert tile(server)["new_browser_tab"] is True


def test_the_tile_can_open_inside_jupyterlab_instead(described: Described, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXG_PROXY_NEW_BROWSER_TAB", "0")
    assert described()["new_browser_tab"] is False


def test_jupyters_root_is_the_first_library_whatever_it_is_called(server: JupyterServer, root: Path) -> None:
    wait_until(lambda: server.get("cellxgene/api/datasets").json()["total"] == len(HOSTILE), "the list of datasets")
    found = server.get("cellxgene/api/datasets").json()
    assert sorted(each["name"] for each in found["datasets"]) == sorted(f"home/{name}" for name in HOSTILE)
    assert found["roots"] == [["home", str(root)]]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_plainly_quoted_name_arrives_whole_through_jupyter_server_proxy(server: JupyterServer, name: str) -> None:
    plain = "".join(f"%{byte:02X}" for byte in name.encode())
    reply = server.get(f"cellxgene/api/progress/home/{plain}")
    # It was found, it only is not open.
    assert (reply.status_code, reply.json()["problem"]["kind"]) == (503, "Stopped")
    assert reply.json()["problem"]["which"] == name.removesuffix(".h5ad")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_is_found_by_the_path_that_jupyters_file_browser_shows(
    server: JupyterServer, root: Path, name: str
) -> None:
    found = server.get("cellxgene/api/find", params={"path": name}).json()
    assert (found["name"], found["file"], found["phase"]) == (f"home/{name}", str(root / name), "closed")


def last_activity(server: JupyterServer) -> str:
    return str(server.get("api/status?no_track_activity=1").json()["last_activity"])


@pytest.mark.hazard(27)
@pytest.mark.parametrize("polled", POLLED)
def test_what_pages_ask_for_by_themselves_is_no_activity(server: JupyterServer, polled: str) -> None:
    before = last_activity(server)
    server.get(f"cellxgene/{polled}")
    assert last_activity(server) == before


@pytest.mark.hazard(27)
def test_what_people_do_is_activity(server: JupyterServer) -> None:
    before = last_activity(server)
    server.get("cellxgene/instances")
    looked = last_activity(server)
    assert looked > before
    server.client.post("cellxgene/api/instances/0123456789abcdef/stop")
    assert last_activity(server) > looked


@pytest.mark.hazard(3)
def test_only_its_user_can_reach_the_gateway(server: JupyterServer) -> None:
    gateway = server.gateway()
    assert gateway is not None
    assert not gateway.net_connections("tcp")
    path = server.socket()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_outside_a_hub_no_share_link_is_made(server: JupyterServer) -> None:
    gateway = server.gateway()
    assert gateway is not None
    assert not [word for word in gateway.cmdline() if "share" in word]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_gateway_ends_with_its_jupyter_server(tmp_path: Path, short: Path, ending: signal.Signals) -> None:
    own = {"XDG_RUNTIME_DIR": str(short)}  # in the one that all share, any other gateway would tidy up
    with jupyter_server(tmp_path / "jupyter", tmp_path, **own) as server:
        server.get("cellxgene/").raise_for_status()
        gateway, path = server.gateway(), server.socket()
        assert gateway is not None
        server.process.send_signal(ending)
        wait_until(lambda: not gateway.is_running() or gateway.status() == psutil.STATUS_ZOMBIE, "the gateway's end")
        assert not path.exists()
        if ending == signal.SIGKILL:  # nothing could tidy up; the next server does
            assert path.parent.exists()
            with jupyter_server(tmp_path / "next", tmp_path, **own):
                pass
        wait_until(lambda: not path.parent.exists(), "the end of the socket's folder")


def test_notebook_7_has_the_entry_too(tmp_path: Path) -> None:
    with jupyter_server(tmp_path / "jupyter", tmp_path, app="notebook") as server:
        assert tile(server)["new_browser_tab"] is True
        assert server.get("cellxgene/api/health").json()["status"] == "ok"


def test_a_wrong_configuration_is_told_on_the_page_and_not_only_in_a_log(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "cxg_proxy_config.py").write_text("c.Gateway.max_instances = 'many'")
    with jupyter_server(tmp_path / "jupyter", tmp_path, JUPYTER_CONFIG_PATH=str(tmp_path / "etc")) as server:
        page = server.get("cellxgene/", headers={"Accept": "text/html"})
        assert "The configuration is wrong" in page.text
        assert "max_instances" in page.text
        assert server.get("cellxgene/").status_code == 500
        once = server.gateway()
        assert once is not None  # still the same: it was not started again and again
        server.get("cellxgene/")
        assert server.gateway() == once


def test_below_a_hub_links_lead_each_visitor_to_their_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_BASE_URL", "/jupyter/")
    assert jupyter.share_prefix() == "/jupyter/hub/user-redirect/cellxgene/"
    monkeypatch.setenv("JUPYTERHUB_HOST", "https://hub.example.org")
    assert jupyter.share_prefix() == "https://hub.example.org/jupyter/hub/user-redirect/cellxgene/"


def test_on_a_binder_links_start_the_same_binder_for_each_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_BASE_URL", "/")  # behind a Binder there is a hub
    monkeypatch.setenv("BINDER_LAUNCH_HOST", "https://binder.example.org/")
    assert jupyter.share_prefix() == ""
    monkeypatch.setenv("BINDER_REQUEST", "v2/gh/ana/data/main")
    assert jupyter.share_prefix() == "https://binder.example.org/v2/gh/ana/data/main?urlpath=cellxgene/"
    monkeypatch.setenv("BINDER_PERSISTENT_REQUEST", "v2/gh/ana/data/0a1b2c")
    assert jupyter.share_prefix() == "https://binder.example.org/v2/gh/ana/data/0a1b2c?urlpath=cellxgene/"
    assert "--Gateway.share_home=True" in jupyter.command("/run/s")  # there every home is a copy of one repository


def test_elsewhere_than_on_a_binder_each_home_is_its_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_BASE_URL", "/jupyter/")
    assert "--Gateway.share_home=True" not in jupyter.command("/run/s")


def test_braces_survive_jupyter_server_proxys_formatting() -> None:
    words = [word.format(unix_socket="wrong", port=0, base_url="wrong") for word in jupyter.command("/run/{port}/s")]
    assert "--socket=/run/{port}/s" in words


def test_a_request_in_the_middle_of_work_counts_whatever_its_address() -> None:
    request = SimpleNamespace(method="PUT")
    assert jupyter.is_activity(SimpleNamespace(request=request, path_args=["/api/instances"]))


def test_the_tile_stays_where_no_folder_for_a_socket_can_be_made(
    described: Described, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    monkeypatch.setattr("cxg_proxy.gateway.sockets._base", lambda: tmp_path / "gone too")
    assert described()["unix_socket"] is True


def test_the_socket_can_be_bound_where_temporary_folders_have_long_names(
    described: Described, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    monkeypatch.setenv("TMPDIR", str(deep))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(described()["unix_socket"]))
