"""The Galaxy door: what the job's environment says becomes options; labels go to the history, or it is said why not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from cxg_proxy import annotations
from cxg_proxy.doors import galaxy
from cxg_proxy.errors import NotSent
from cxg_proxy.gateway.labels.outbox import Outgoing
from datasets import write_dataset
from waiting import until_now

KEY = "the-key-of-a-job"
TOKEN = "the-token-of-a-job"
GENE_SETS = b"gene_set_name,gene_set_description,gene_symbol,gene_description\r\nmine,,CD79A,\r\n"
LABELS = b"index,mine\ncell#1,T cell\r\n"


class Refusing(BaseHTTPRequestHandler):
    """A Galaxy that answers what it is told to, and remembers what it was asked."""

    status, answer = 200, b"{}"
    asked: list[Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, self.headers, body))
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@contextmanager
def answering(status: int, answer: object) -> Iterator[tuple[str, list[Any]]]:
    """Its address, and what it was asked."""
    asked: list[Any] = []
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    kind = type("Answering", (Refusing,), {"status": status, "answer": content, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        finally:
            server.shutdown()
            thread.join()


def send(url: str, key: str = KEY, history: str = "h1") -> Any:
    return asyncio.run(galaxy.History(url, key, history).send([Outgoing("pbmc, “odd”: cell labels", LABELS)]))


def test_files_are_uploaded_as_they_are_and_called_what_galaxy_calls_them() -> None:
    with answering(200, {"outputs": [{"hid": 7, "name": "pbmc: cell labels"}]}) as (url, asked):
        assert send(url) == ["7: pbmc: cell labels"]
    ((path, headers, body),) = asked
    assert path == "/api/tools/fetch"
    assert headers["x-api-key"] == KEY
    form = message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
    fields = {part.get_param("name", header="Content-Disposition"): part for part in form.get_payload()}
    assert fields["history_id"].get_payload() == "h1"
    (target,) = json.loads(fields["targets"].get_payload())
    assert target["elements"] == [{"src": "files", "name": "pbmc, “odd”: cell labels", "ext": "csv"}]
    assert LABELS in body


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (403, {"err_msg": "Provided API key is not valid."}, "Galaxy refuses: Provided API key is not valid"),
        (500, b"<html>", "Galaxy refuses: 500"),
        (413, b"", "takes no files of this size"),
        (302, b"", "Galaxy refuses: 302"),
        (200, b"<html>", "answer cannot be understood"),
        (200, {"outputs": "x"}, "answer cannot be understood"),
        (200, {"outputs": []}, "0 of 1 files"),
    ],
)
def test_what_galaxy_refuses_is_said_with_its_own_reason_and_asked_once(
    status: int, answer: object, words: str
) -> None:
    with answering(status, answer) as (url, asked), pytest.raises(NotSent, match=re.escape(words)) as refused:
        send(url)
    assert len(asked) == 1  # the key follows no redirect
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        ("http://127.0.0.1:1/", KEY, "127.0.0.1:1 cannot be reached from here"),
        (f"http://no such host/{KEY}", KEY, "cannot be reached"),
        ("http://127.0.0.1:1/", "", "has not told this tool whose history"),
    ],
)
def test_a_galaxy_that_cannot_be_reached_is_named_and_the_key_is_not(url: str, key: str, words: str) -> None:
    with pytest.raises(NotSent, match=re.escape(words)) as refused:
        send(url, key)
    assert KEY not in str(refused.value)


def environment(url: str = "http://127.0.0.1:1/") -> dict[str, str]:
    path = f"/interactivetool/ep/1a/2b/?token={TOKEN}"
    return {galaxy.ENTRY_POINT: path, galaxy.URL: url, galaxy.KEY: KEY, galaxy.HISTORY: "h1"}


def test_the_job_s_environment_gives_token_prefix_and_frame_and_keeps_no_secret() -> None:
    around = environment("https://galaxy.example/") | {"HOME": "/x"}
    told = galaxy.options_from_environment(around)
    assert around == {"HOME": "/x"}
    assert told["token"] == TOKEN
    assert told["prefix_header"] == "x-galaxy-entry-point-path"
    assert told["frame_ancestors"] == "https://galaxy.example"
    assert galaxy.options_from_environment({}) == {"prefix_header": "x-galaxy-entry-point-path"}
    assert "token" not in galaxy.options_from_environment({galaxy.ENTRY_POINT: "/interactivetool/ep/1a/2b/"})


def test_the_tool_has_the_proxy_send_the_header_and_the_job_know_the_names_that_the_door_reads() -> None:
    macros = (Path(__file__).parents[2] / "galaxy_ie" / "macros.xml").read_text()
    assert f'<token name="@PREFIX_HEADER@">{galaxy.PREFIX_HEADER}</token>' in macros
    for name in (galaxy.ENTRY_POINT, galaxy.URL, galaxy.KEY, galaxy.HISTORY):
        assert f'<environment_variable name="{name}"' in macros


@contextmanager
def tool(folder: Path, url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The gateway as the tool starts it, and its address."""
    log = folder / "log"
    command = [sys.executable, "-m", "cxg_proxy", "galaxy", "--port=0", "--labels-folder=annotations"]
    command += [f"--home={folder / 'home'}", f"--Gateway.cache={folder / 'cache'}", str(folder / "dataset_12.dat")]
    with log.open("wb") as out:
        around = {**os.environ, **environment(url), "XDG_RUNTIME_DIR": str(folder)}
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, env=around)
    try:
        until_now(lambda: "listens on" in log.read_text() or process.poll() is not None)
        yield process, f"http://127.0.0.1:{log.read_text().partition('127.0.0.1:')[2].partition('/')[0]}"
    finally:
        process.terminate()
        process.wait(10)
    assert TOKEN not in log.read_text()
    assert KEY not in log.read_text()


class Client:
    """A browser with a cookie jar, as far as needed."""

    def __init__(self, address: str) -> None:
        import httpx  # noqa: PLC0415 - this client alone

        self.web = httpx.Client(base_url=address, follow_redirects=True)

    def get(self, path: str) -> Any:
        return self.web.get(path, headers={"Accept": "text/html"})

    def press(self, page: Any, action: str) -> Any:
        """Send a form of a page."""
        token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)
        assert token
        target = re.search(rf'action="([^"]+/{action})"', page.text)
        assert target
        headers = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
        return self.web.post(page.url.join(target[1]), data={"_xsrf": token[1]}, headers=headers)


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_labels_are_saved_to_the_history_from_their_page_and_no_worker_learns_the_key(tmp_path: Path) -> None:
    write_dataset(tmp_path / "x.h5ad").rename(tmp_path / "dataset_12.dat")
    answer = {"outputs": [{"hid": 3, "name": "<b>labels"}, {"hid": 4, "name": "sets"}]}
    with answering(200, answer) as (url, asked), tool(tmp_path, url) as (process, address):
        client = Client(address)
        assert client.get("/").status_code == 403
        first = client.get(f"/?token={TOKEN}")
        assert first.status_code == 200
        page = first.url.join("../../../annotations/dataset/dataset_12.dat.h5ad")
        assert "Save to history now" not in client.get(str(page)).text  # nothing is saved yet
        annotations.write(tmp_path / "annotations", annotations.LABELS, b"index,mine\ncell0,T\n")
        annotations.write(tmp_path / "annotations", annotations.GENE_SETS, GENE_SETS)
        sent = client.press(client.get(str(page)), "send")
        assert sent.status_code == 200
        assert "3: &lt;b&gt;labels" in sent.text
        assert len(asked) == 1
        assert b"index,mine\ncell0,T\n" in asked[0][2]
        assert GENE_SETS in asked[0][2]
        looked_at = 0
        for worker in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # the look at labels for the history ends by itself
                assert not {KEY, TOKEN} & set(worker.environ().values())
                assert not any(TOKEN in word or KEY in word for word in worker.cmdline())
                looked_at += 1
        assert looked_at
        client.web.close()


@pytest.mark.timeout(120)
def test_a_galaxy_that_refuses_is_told_on_the_page_of_the_button_and_the_labels_stay(tmp_path: Path) -> None:
    write_dataset(tmp_path / "x.h5ad").rename(tmp_path / "dataset_12.dat")
    refusal = {"err_msg": "The <b>history</b> is not yours."}
    with answering(403, refusal) as (url, asked), tool(tmp_path, url) as (_, address):
        client = Client(address)
        page = client.get(f"/?token={TOKEN}").url.join("../../../annotations/dataset/dataset_12.dat.h5ad")
        annotations.write(tmp_path / "annotations", annotations.LABELS, LABELS)
        sent = client.press(client.get(str(page)), "send")
        assert (sent.status_code, len(asked)) == (502, 1)
        assert "the labels could not be sent to the history" in sent.text.lower()
        assert "Galaxy refuses: The &lt;b&gt;history&lt;/b&gt; is not yours" in sent.text
        again = client.get(str(page))
        assert "Sent to the history" not in again.text
        assert "Save to history now" in again.text
        client.web.close()
    assert (tmp_path / "annotations" / annotations.LABELS).read_bytes() == LABELS
