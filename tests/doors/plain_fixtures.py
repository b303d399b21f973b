"""A real Jupyter server with two tiles: plain cellxgene behind plain jupyter-server-proxy, and ours beside it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from hub_fixtures import free_ports
from jupyter_fixtures import TOKEN, JupyterServer, jupyter_server

from datasets import write_dataset

NAME = """what? #1 50% {x} 'q' "Zellen für Ana".h5ad"""
BROKEN = "no.h5ad"
IDLE_SECONDS = 6.0
LAUNCH = "from server.cli.cli import cli; cli()"


class Beside:
    """The two viewers' addresses on one server."""

    def __init__(self, server: JupyterServer, port: int) -> None:
        self.server, self.port = server, port
        self.plain = server.url + "plain/"
        self.ours = server.url + f"cellxgene/view/home/{escaped(NAME)}/"

    def entry(self, address: str) -> str:
        """The address for a browser that has not logged in."""
        return f"{address}?token={TOKEN}"

    def last_activity(self) -> str:
        """When somebody was last there, to the Jupyter server's mind."""
        return str(self.server.get("api/status?no_track_activity=1").json()["last_activity"])

    def phase(self) -> str:
        """How our viewer is."""
        found = self.server.get(f"cellxgene/api/progress/home/{escaped(NAME)}")
        return str(found.json()["phase"]) if found.status_code == 200 else "closed"


def escaped(name: str) -> str:
    """A name as our links write it: what is not unreserved as ~XX."""
    return quote(name, safe="").replace("%", "~")


def configure(etc: Path, server: str, gateway: str = "") -> None:
    """Write the configuration of a Jupyter server and of its gateways."""
    etc.mkdir()
    (etc / "jupyter_server_config.py").write_text(f"c = get_config()\n{server}")
    (etc / "cxg_proxy_config.py").write_text(f"c = get_config()\n{gateway}")


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Beside]:
    """Both, as long as the block lasts; the plain one's dataset is the same one under a plain name."""
    root = folder / "root"
    data = write_dataset(folder / "plain.h5ad", cells=700)
    root.mkdir()
    (root / NAME).hardlink_to(data)
    (root / BROKEN).write_text("cell,gene\n")
    (port,) = free_ports(1)
    launch = [sys.executable, "-c", LAUNCH, "launch", "--port", "{port}"]
    launch += ["--user-generated-data-dir", str(folder / "plain-labels")]
    servers = {
        "plain": {"command": [*launch, str(data)], "port": port, "timeout": 60},
        "broken": {"command": [*launch, str(root / BROKEN)], "timeout": 10},
    }
    configure(folder / "etc", f"c.ServerProxy.servers = {servers!r}\n", f"c.Gateway.idle_seconds = {IDLE_SECONDS}\n")
    with jupyter_server(folder / "jupyter", root, JUPYTER_CONFIG_PATH=str(folder / "etc")) as server:
        yield Beside(server, port)
