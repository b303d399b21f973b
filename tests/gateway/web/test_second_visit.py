"""Who comes back to a dataset with the same browser transfers next to nothing, and hardly troubles the worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page

from pages_site import a_browser, a_tab, no_leftovers_yet  # noqa: F401 - fixtures
from ports import TOKEN
from viewer_fixtures import cells
from waiting import until_now

pytestmark = pytest.mark.timeout(300)

VIEWER = "/view/data/atlas.h5ad/"
MAX_BYTES = 50_000
# Notes each request that a worker begins to answer.
NOTING = """
import os
try:
    from waitress.task import WSGITask
except ImportError:
    pass
else:
    execute = WSGITask.execute
    def noted(self):
        query = self.request.query
        with open(os.environ["ASKED"], "a") as note:
            note.write(self.request.path + ("?" + query if query else "") + "\\n")
        return execute(self)
    WSGITask.execute = noted
"""
# What changes with labels and gene sets, and the page itself, which opens the viewer.
FOR_THE_WORKER = {"/", "/obsolete.js", "/api/v0.2/schema", "/api/v0.2/genesets"}


class Visits:
    """A gateway on one port, and a browser that comes to it."""

    def __init__(self, folder: Path, port: int, page: Page) -> None:
        self.folder, self.page, self.asked = folder, page, folder / "asked"
        self.address = f"http://127.0.0.1:{port}{VIEWER}"
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(NOTING)
        noting = json.dumps({"PYTHONPATH": str(folder / "site"), "ASKED": str(self.asked)})
        self.command = [sys.executable, "-m", "cxg_proxy", f"--port={port}", f"--token={TOKEN}"]
        self.command += [f"--library=data={folder / 'data'}", f"--home={folder / 'home'}"]
        self.command += [f"--Gateway.cache={folder / 'cache'}", f"--Gateway.logs={folder / 'logs'}"]
        self.command += [f"--Gateway.viewer_environment={noting}"]
        self._answers: dict[str, dict[str, Any]] = {}
        self._listen()

    def _listen(self) -> None:
        cdp = self.page.context.new_cdp_session(self.page)
        cdp.send("Network.enable")
        cdp.on("Network.requestWillBeSent", lambda told: self._of(told).update(url=told["request"]["url"]))
        cdp.on("Network.responseReceivedExtraInfo", lambda told: self._of(told).update(status=told["statusCode"]))
        cdp.on("Network.loadingFinished", lambda told: self._of(told).update(bytes=told["encodedDataLength"]))

    def _of(self, told: dict[str, Any]) -> dict[str, Any]:
        return self._answers.setdefault(told["requestId"], {"url": "", "status": 0, "bytes": 0})

    @contextlib.contextmanager
    def gateway(self) -> Iterator[None]:
        log = self.folder / "gateway.log"
        with log.open("wb") as out:
            process = subprocess.Popen(self.command, stdout=out, stderr=out, cwd=self.folder, env=dict(os.environ))
        try:
            until_now(lambda: "listens on" in log.read_text() or process.poll() is not None)
            yield
        finally:
            process.terminate()
            process.wait(10)

    def come(self, query: str = "") -> list[dict[str, Any]]:
        """Visit the dataset until its page has all it wants; what each address took, in bytes on the wire."""
        self.page.goto("about:blank")
        self._answers.clear()
        self.asked.write_text("")
        self.page.goto(self.address + query)
        self.page.get_by_test_id("layout-graph").wait_for(timeout=90_000)
        self.page.wait_for_load_state("networkidle")
        return [each for each in self._answers.values() if each["url"].startswith("http")]

    def noted(self) -> list[str]:
        """What the worker was asked meanwhile."""
        return self.asked.read_text().splitlines()


@pytest.fixture
def visits(tmp_path: Path, tab: Callable[..., Page]) -> Visits:
    data, random = cells(20_000, 50), np.random.default_rng(2)
    for number in range(4):
        data.obs[f"number {number}"] = random.random(20_000, dtype=np.float32)
        data.obs[f"category {number}"] = pd.Categorical([f"c{label}" for label in random.integers(0, 9, 20_000)])
    (tmp_path / "data").mkdir()
    data.write_h5ad(tmp_path / "data" / "atlas.h5ad")
    return Visits(tmp_path, free_port(), tab())


def total(visit: list[dict[str, Any]]) -> int:
    return sum(int(each["bytes"]) for each in visit)


def data_of(visit: list[dict[str, Any]], status: int) -> list[str]:
    """The data that was asked for with this outcome, as the worker names it."""
    found = [each["url"].partition(VIEWER)[2] for each in visit if each["status"] == status]
    return [f"/{name}" for name in found if name.startswith("api/v0.")]


def test_a_second_visit_transfers_next_to_nothing(visits: Visits) -> None:
    with visits.gateway():
        first, asked = visits.come(f"?token={TOKEN}"), visits.noted()
        assert total(first) > 1_000_000
        wanted = data_of(first, 200)
        assert len(wanted) > 15
        assert set(wanted) <= set(asked)
        check_second(visits, wanted)
        refuse_without_the_token(visits)
    with visits.gateway():  # another one, with a worker of its own
        check_second(visits, wanted)


def check_second(visits: Visits, wanted: list[str]) -> None:
    second = visits.come()
    assert total(second) < MAX_BYTES
    assert set(visits.noted()) <= FOR_THE_WORKER
    assert set(data_of(second, 304)) >= set(wanted) - {"/api/v0.2/genesets"}
    assert data_of(second, 200) == ["/api/v0.2/genesets"]


def refuse_without_the_token(visits: Visits) -> None:
    """What is told to whoever has it is told to nobody else."""
    target, known = f"{visits.address}api/v0.2/colors", {"Authorization": f"token {TOKEN}"}
    _, tag = ask(target, known)
    assert ask(target, {**known, "If-None-Match": tag})[0] == 304
    assert ask(target, {"If-None-Match": tag})[0] == 403


def ask(address: str, headers: dict[str, str]) -> tuple[int, str]:
    """The status of a reply, and its tag."""
    where = urlsplit(address)
    with contextlib.closing(http.client.HTTPConnection(where.netloc)) as connection:
        connection.request("GET", where.path, headers={"Accept": "application/json", **headers})
        reply = connection.getresponse()
        reply.read()
        return reply.status, reply.headers.get("ETag", "")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        return int(chosen.getsockname()[1])
