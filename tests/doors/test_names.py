"""Names that need care, from the card in the list to the viewer, through a real jupyter-server-proxy.

The worker is a fake one that says what it was asked and with which words it was started. Beside it runs a program
behind plain jupyter-server-proxy that says what it was asked too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx
import pytest
from jupyter_fixtures import JupyterServer, jupyter_server, wait_until
from plain_fixtures import configure

from gateways import viewer_python

NAMES = [
    "plain.h5ad",
    "with space.h5ad",
    'it\'s "quoted".h5ad',
    "50%.h5ad",
    "%41.h5ad",
    "a#1.h5ad",
    "a?b=c.h5ad",
    "{x} {port}.h5ad",
    "line\nbreak.h5ad",
    "Zellen für Ana 細胞.h5ad",
    "a+b&c;d=e~3F.h5ad",
    "folder ? #/deep {0}.h5ad",
]
ASKED = {"Cookie": "_xsrf=hub; username-hub=secret; session=x"}
PAGE = {"Accept": "text/html"}


class Cards(HTMLParser):
    """The links of the cards on the page of datasets, by their labels."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self._href = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """The link that a click anywhere on the card follows."""
        found = dict(attrs)
        if tag == "a":
            self._href = str(found.get("href")) if found.get("class") == "stretch" else ""
            self.links.setdefault(self._href, "")

    def handle_endtag(self, tag: str) -> None:
        """Its end."""
        if tag == "a":
            self._href = ""

    def handle_data(self, data: str) -> None:
        """Its label, which may be broken into pieces."""
        if self._href:
            self.links[self._href] += data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names") / "my {work} 100%"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not read by the fake worker")
    return folder


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    folder = tmp_path_factory.mktemp("jupyter")
    mirror = {"command": [sys.executable, str(Path(__file__).with_name("mirror.py")), "{port}"], "timeout": 30}
    servers = {"plain": mirror}
    gateway = f"c.Gateway.viewer_python = {str(viewer_python(folder))!r}\nc.Gateway.max_instances = {len(NAMES)}\n"
    configure(folder / "etc", f"c.ServerProxy.servers = {servers!r}\n", gateway)
    with jupyter_server(folder, root, JUPYTER_CONFIG_PATH=str(folder / "etc")) as running:
        yield running


@pytest.fixture(autouse=True, scope="module")
def _before_the_check(server: JupyterServer) -> None:
    """Have the server running before a test's leftovers are counted."""


def card_link(server: JupyterServer, name: str) -> str:
    """Where a click on a dataset's card leads, as a browser would resolve it."""
    folder, _, label = name.rpartition("/")
    page: list[httpx.Response] = []

    def found() -> bool:
        page[:] = [server.get("cellxgene/", params={"folder": f"home/{folder}".rstrip("/")}, headers=PAGE)]
        return label.removesuffix(".h5ad") in [text.strip("\u200b") for text in Cards(page[0].text).links.values()]

    wait_until(found, f"the card of {name!r}")
    links = Cards(page[0].text).links
    (href,) = [href for href, text in links.items() if text == label.removesuffix(".h5ad")]
    return urljoin(str(page[0].url), href)


def viewer(server: JupyterServer, address: str) -> Any:
    """Open a viewer and wait until the worker itself answers at its address."""
    replies: list[httpx.Response] = []

    def there() -> bool:
        replies.append(server.get(address, headers={**PAGE, **ASKED}))
        assert replies[-1].status_code == 200, replies[-1].text
        return replies[-1].headers["content-type"] == "application/json"

    wait_until(there, f"the viewer at {address}")
    return replies[-1].json()


@pytest.mark.parametrize("name", NAMES)
def test_a_click_on_a_card_opens_the_viewer_of_that_very_file(server: JupyterServer, root: Path, name: str) -> None:
    address = card_link(server, name)
    shown = viewer(server, address)
    assert json.loads(shown["environment"]["ARGUMENTS"])[-1] == str(root / name)
    assert shown["target"] == "/"
    api = server.get(urljoin(address, "api/v0.2/annotations/obs?annotation-name=cell%20type%3F"))
    assert api.json()["target"] == "/api/v0.2/annotations/obs?annotation-name=cell%20type%3F"
    state = server.get(urljoin(address, "cxg-proxy/state")).json()
    assert state["phase"] == "ready"
    assert urljoin(address, f"cxg-proxy/{state['library']}") == f"{server.url}cellxgene/"


@pytest.mark.parametrize("name", ["a#1.h5ad", "a?b=c.h5ad"])
def test_plain_jupyter_server_proxy_cuts_a_name_at_these_letters(server: JupyterServer, name: str) -> None:
    target = server.get(f"plain/{quote(name)}").json()["target"]
    assert urlsplit(target).path.rpartition("/")[2] != quote(name)
    assert urlsplit(target).path == f"/{name[:1]}"


@pytest.mark.hazard(5)
def test_a_viewer_gets_the_hubs_cookies_and_token_there_and_none_here(server: JupyterServer) -> None:
    there = server.get("plain/", headers=ASKED).json()["headers"]
    assert "username-hub=secret" in there["cookie"]
    assert "authorization" in there
    here = dict(viewer(server, card_link(server, "plain.h5ad"))["headers"])
    assert "host" in here
    assert not {"cookie", "authorization"} & set(here)
    assert "secret" not in json.dumps(here)
