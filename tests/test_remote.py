"""Datasets at remote addresses: downloaded into the cache, continued when broken off, their addresses told nowhere."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import until_now
from cxg_proxy.copies import ABANDONED_SECONDS, sweep
from cxg_proxy.errors import NotDownloaded
from cxg_proxy.library import Dataset, Library
from cxg_proxy.remote import Remotes
from cxg_proxy.transfer import BrokenOff, onward, usable
from gateways import PAGE, Gateway, running_gateway

SECRET = "s3cr3t"
CONTENT = hashlib.sha256(b"a dataset").digest() * 20_000  # 640 kB


class Site:
    """A server of one file that behaves as it is told; `asked` holds the headers of each request."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag = '"one"'
        self.modified = ""
        self.ranges = self.conditions = self.if_range = True
        self.status = 0  # instead of the file
        self.location = ""
        self.stop_at: int | None = None  # break off after so many bytes
        self.most: int | None = None  # of a range, at a time
        self.hold_at: int | None = None  # send so many bytes and wait for `go`
        self.go = threading.Event()
        self.asked: list[dict[str, str]] = []
        self.sent: list[int] = []  # bytes of each reply
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}/far/atlas.h5ad?signature={SECRET}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(site) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append({name.lower(): value for name, value in self.headers.items()})
                try:
                    site._answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = self.asked[-1]
        known = {"ETag": self.etag, "Last-Modified": self.modified}
        same = self.conditions and (
            (self.etag and asked.get("if-none-match") == self.etag)
            or (self.modified and asked.get("if-modified-since") == self.modified)
        )
        if self.status or self.location or same:
            handler.send_response(self.status or (302 if self.location else 304))
            if self.location:
                handler.send_header("Location", self.location)
            handler.end_headers()
            return
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        if wanted and self.ranges and (asked.get("if-range") in (self.etag, self.modified) or not self.if_range):
            start = int(wanted[1])
        end = min(len(self.content), start + self.most) if start and self.most else len(self.content)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(self.content)}")
        for name, value in known.items():
            if value:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(end - start))
        handler.end_headers()
        self._send(handler, self.content[start:end])

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.sent.append(len(body))
        if self.stop_at is not None:
            body = body[: self.stop_at]
        elif self.hold_at is not None:
            handler.wfile.write(body[: self.hold_at])
            self.go.wait(30)
            body = body[self.hold_at :]
        handler.wfile.write(body)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


class Here:
    """What one user's gateway would do with the site's file."""

    def __init__(self, folder: Path, address: str) -> None:
        self.remotes = Remotes(folder / "remote", {"atlas": address}, patience=0.4)
        self.library = Library({}, copies=self.remotes.folder, remotes=["atlas"])
        self.file = self.remotes.folder / "atlas.h5ad"
        self.part = self.remotes.folder / "atlas.h5ad.part"
        self.shares: list[float | None] = []

    async def fetch(self) -> Dataset:
        return await self.remotes.fetch(self.library.find("remote/atlas.h5ad"), self.shares.append)


@pytest.fixture
def here(tmp_path: Path, site: Site) -> Here:
    return Here(tmp_path, site.address)


# --- one download --------------------------------------------------------------------------------------------------


async def test_what_is_downloaded_is_what_was_there_and_only_its_owner_may_read_it(here: Here, site: Site) -> None:
    before = here.library.find("remote/atlas.h5ad")
    assert (before.there, before.bytes) == (False, 0)
    after = await here.fetch()
    assert here.file.read_bytes() == CONTENT
    assert after == here.library.find("remote/atlas.h5ad")
    assert (after.there, after.bytes) == (True, len(CONTENT))
    assert here.shares[-1] == 1
    assert here.file.stat().st_mode & 0o777 == 0o600
    assert here.file.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(each.name for each in here.file.parent.iterdir()) == [
        "atlas.h5ad",
        "atlas.h5ad.json",
        "atlas.h5ad.lock",
    ]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stop_at": 100_000}, "the connection broke off"),
        ({"status": 404}, "status 404"),
        ({"status": 500}, "status 500"),
        ({"status": 416}, "status 416"),
        ({"status": 206}, "status 206"),
        ({"hold_at": 1000}, "silent for 0 s"),
        ({"location": "file:///etc/passwd"}, "neither http nor https"),
        ({"location": "ftp://127.0.0.1/x"}, "neither http nor https"),
        ({"location": f"/again?{SECRET}"}, "on for ever"),
        ({"status": 302}, "neither http nor https"),
    ],
)
async def test_what_goes_wrong_is_said_with_the_name_and_without_the_address(
    how: dict[str, Any], said: str, here: Here, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    vars(site).update(how)
    with caplog.at_level(logging.DEBUG), pytest.raises(NotDownloaded, match=said) as caught:
        await here.fetch()
    assert caught.value.which == "atlas"
    assert not here.file.exists()
    for text in (json.dumps(caught.value.to_json()), caplog.text):
        assert SECRET not in text
        assert "127.0.0.1" not in text


async def test_a_server_that_is_not_there_is_said_to_be(tmp_path: Path, site: Site) -> None:
    site.close()
    with pytest.raises(NotDownloaded, match=r"cannot be reached: Connection refused|cannot be reached"):
        await Here(tmp_path, site.address).fetch()


async def test_a_redirect_to_another_server_is_followed_and_takes_no_password_along(tmp_path: Path, site: Site) -> None:
    first = Site()
    try:
        first.location = site.address
        await Here(tmp_path, first.address.replace("//", "//ana:password@")).fetch()
    finally:
        first.close()
    assert "authorization" in first.asked[0]
    assert "authorization" not in site.asked[0]
    assert (tmp_path / "remote" / "atlas.h5ad").read_bytes() == CONTENT


def test_only_addresses_that_can_be_asked_are_followed() -> None:
    for wrong in ("file:///etc/passwd", "http://", "http://h:x/", "http://h/a b", "http://h/\r\nX: y", "http://[::1/"):
        assert not usable(wrong)
    assert onward("https://h/a/b?x", "../c") == "https://h/c"
    with pytest.raises(BrokenOff, match="from https to http"):
        onward("https://h/a", "http://h/a")


# --- again ---------------------------------------------------------------------------------------------------------


async def broken_off(here: Here, site: Site, at: int = 200_000) -> None:
    site.stop_at = at
    with pytest.raises(NotDownloaded):
        await here.fetch()
    assert here.part.read_bytes() == site.content[:at]
    site.stop_at = None


@pytest.mark.parametrize(("etag", "modified"), [('"one"', ""), ("", "Mon, 01 Jan 2024 00:00:00 GMT")])
@pytest.mark.hazard(22)
async def test_a_download_that_broke_off_goes_on_where_it_stopped(
    etag: str, modified: str, here: Here, site: Site
) -> None:
    site.etag, site.modified = etag, modified
    await broken_off(here, site)
    await here.fetch()
    assert site.asked[-1]["range"] == "bytes=200000-"
    assert site.asked[-1]["if-range"] == (etag or modified)
    assert site.sent == [len(CONTENT), len(CONTENT) - 200_000]
    assert here.file.read_bytes() == CONTENT


async def test_a_server_that_sends_less_than_is_missing_is_asked_again(here: Here, site: Site) -> None:
    await broken_off(here, site)
    site.most = 300_000
    with pytest.raises(NotDownloaded, match="500000 of 640000 bytes came"):
        await here.fetch()
    assert not here.file.exists()
    await here.fetch()
    assert here.file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "how",
    [
        {"ranges": False},
        {"etag": '"two"', "content": CONTENT[::-1]},
        {"etag": '"two"', "content": CONTENT[::-1], "if_range": False},
        {"etag": '"two"', "content": b"short", "status": 0},
        {"content": CONTENT + b"longer", "if_range": False},
    ],
)
async def test_a_part_that_cannot_be_continued_is_begun_anew(how: dict[str, Any], here: Here, site: Site) -> None:
    await broken_off(here, site)
    vars(site).update(how)
    await here.fetch()
    assert here.file.read_bytes() == site.content


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
async def test_without_a_mark_of_its_version_no_part_is_continued(etag: str, here: Here, site: Site) -> None:
    site.etag = etag
    await broken_off(here, site)
    site.content = CONTENT[::-1]
    await here.fetch()
    assert "range" not in site.asked[-1]
    assert here.file.read_bytes() == CONTENT[::-1]


async def test_a_part_of_another_address_is_not_continued(tmp_path: Path, here: Here, site: Site) -> None:
    await broken_off(here, site)
    site.content = CONTENT[::-1]
    await Here(tmp_path, site.address.replace("atlas", "other")).fetch()
    assert here.file.read_bytes() == CONTENT[::-1]


async def test_a_new_signature_does_not_make_another_address(tmp_path: Path, here: Here, site: Site) -> None:
    await broken_off(here, site)
    await Here(tmp_path, site.address + "-of-today").fetch()
    assert "range" in site.asked[-1]


async def test_a_part_that_is_whole_is_not_downloaded_again(here: Here, site: Site) -> None:
    await here.fetch()
    here.file.rename(here.part)
    here.file.with_name("atlas.h5ad.json").rename(here.part.with_name("atlas.h5ad.part.json"))
    await here.fetch()
    assert site.sent == [len(CONTENT)]
    assert here.file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "how", [{}, {"conditions": False}, {"etag": ""}, {"etag": "", "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
async def test_a_copy_that_is_still_right_is_kept(how: dict[str, Any], here: Here, site: Site) -> None:
    vars(site).update(how)
    first = await here.fetch()
    assert await here.fetch() == first
    assert len(site.asked) == 2


@pytest.mark.parametrize(
    "how",
    [
        {"etag": '"two"', "content": CONTENT[::-1]},
        {"etag": "", "content": CONTENT[1:]},
        {"conditions": False, "content": CONTENT[1:]},
    ],
)
async def test_a_copy_is_renewed_when_the_address_has_something_new(
    how: dict[str, Any], here: Here, site: Site
) -> None:
    first = await here.fetch()
    vars(site).update(how)
    second = await here.fetch()
    assert first.fingerprint != second.fingerprint
    assert here.file.read_bytes() == site.content


@pytest.mark.parametrize("how", [{"status": 403}, {"etag": '"two"', "stop_at": 1000}, {"hold_at": 10, "etag": '"2"'}])
async def test_a_copy_is_used_when_nothing_newer_can_be_had(
    how: dict[str, Any], here: Here, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await here.fetch()
    vars(site).update(how)
    await here.fetch()
    assert here.file.read_bytes() == CONTENT
    assert "remote/atlas.h5ad: " in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.hazard(22)
def test_what_killed_downloads_left_goes_after_a_week(tmp_path: Path) -> None:
    names = ["a.h5ad", "a.h5ad.json", "a.h5ad.lock", "a.h5ad.part", "a.h5ad.part.json", ".a.h5ad.json-x"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    sweep(tmp_path, time.time() + ABANDONED_SECONDS - 60)
    assert {each.name for each in tmp_path.iterdir()} == set(names)
    sweep(tmp_path, time.time() + ABANDONED_SECONDS + 60)
    assert {each.name for each in tmp_path.iterdir()} == set(names[:3])


# --- a whole gateway -----------------------------------------------------------------------------------------------

VIEW = "/view/remote/atlas.h5ad/"


@pytest.fixture
def options(tmp_path: Path, site: Site) -> list[str]:
    config = tmp_path / "cxg_proxy_config.py"
    config.write_text(f"c.Gateway.remotes = {{'atlas': {site.address!r}}}\n")
    return [f"--config={config}"]


def card(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/api/datasets").json["datasets"][0]
    return found


def until_share(gateway: Gateway) -> float:
    """Wait until the download is under way; how far it is."""
    gateway.get(VIEW, **PAGE)
    until_now(lambda: (gateway.get("/api/progress/remote/atlas.h5ad").json["done"] or 0) > 0)
    return float(gateway.get("/api/progress/remote/atlas.h5ad").json["done"])


def test_a_remote_dataset_is_downloaded_with_its_progress_then_opened_and_its_address_is_nowhere(
    tmp_path: Path, site: Site, options: list[str]
) -> None:
    site.hold_at = len(CONTENT) // 4
    with running_gateway(tmp_path, *options) as gateway:
        until_now(lambda: gateway.get("/api/datasets").json["datasets"])
        assert (card(gateway)["bytes"], card(gateway)["pending"], card(gateway)["name"]) == (
            None,
            False,
            "remote/atlas.h5ad",
        )
        seen = [gateway.get("/", **PAGE).text]
        assert "not downloaded yet" in seen[0]
        assert "0 B" not in seen[0].replace("\u00a0", " ")
        assert until_share(gateway) == 0.25
        seen += [gateway.get(target, **PAGE).text for target in (VIEW, "/", "/instances")]
        seen += [gateway.get(f"/api/{name}").text for name in ("datasets", "instances", "progress/remote/atlas.h5ad")]
        assert "Downloading the dataset" in seen[1]
        assert "25\u202f%" in seen[1]
        assert card(gateway)["phase"] == "downloading"
        site.go.set()
        gateway.open("remote/atlas.h5ad")
        mirror = gateway.get(VIEW)
        until_now(lambda: card(gateway)["cells"] == 3)
        assert card(gateway)["bytes"] == len(CONTENT)
        seen += [mirror.text, gateway.get("/", **PAGE).text, gateway.log.read_text()]
        seen += [" ".join(each.cmdline()) for each in (psutil.Process(gateway.process.pid), *gateway.workers())]
        for file in (each for folder in ("cache", "logs") for each in (tmp_path / folder).rglob("*") if each.is_file()):
            seen += [str(file), file.read_bytes().decode("latin-1")]
        assert not any(SECRET in text for text in seen)
        instance = gateway.instances()[0]
        assert gateway.get(VIEW).json["pid"] == mirror.json["pid"], instance
    assert (tmp_path / "cache" / "remote" / "atlas.h5ad").read_bytes() == CONTENT


@pytest.mark.hazard(22)
def test_a_gateway_killed_outright_while_it_downloads_is_continued_by_the_next(
    tmp_path: Path, short: Path, site: Site, options: list[str]
) -> None:
    site.hold_at = 300_000
    part = tmp_path / "cache" / "remote" / "atlas.h5ad.part"
    with running_gateway(tmp_path, *options, temporary=short) as gateway:
        until_share(gateway)
        until_now(lambda: part.stat().st_size == 300_000)
        gateway.process.send_signal(signal.SIGKILL)
        gateway.process.wait(10)
    site.hold_at = None
    with running_gateway(tmp_path, *options, temporary=short) as gateway:
        gateway.open("remote/atlas.h5ad")
        assert site.asked[-1]["range"] == "bytes=300000-"
        assert part.with_suffix("").read_bytes() == CONTENT
        assert not part.exists()


def test_of_two_gateways_one_downloads_and_the_other_sees_how_far_it_is(
    tmp_path: Path, site: Site, options: list[str]
) -> None:
    site.hold_at = len(CONTENT) // 2
    with running_gateway(tmp_path, *options) as first, running_gateway(tmp_path, *options) as second:
        assert until_share(first) == 0.5
        assert until_share(second) == 0.5
        assert len(site.asked) == 1
        site.go.set()
        first.open("remote/atlas.h5ad")
        second.open("remote/atlas.h5ad")
    assert site.sent == [len(CONTENT)]


def test_cancel_stops_the_download_and_keeps_what_has_come(tmp_path: Path, site: Site, options: list[str]) -> None:
    site.hold_at = 100_000
    part = tmp_path / "cache" / "remote" / "atlas.h5ad.part"
    with running_gateway(tmp_path, *options) as gateway:
        until_share(gateway)
        until_now(lambda: part.stat().st_size == 100_000)
        stopped = gateway.post(
            f"/api/instances/{gateway.instances()[0]['id']}/stop",
            {"_xsrf": gateway.xsrf()},
            Sec_Fetch_Site="same-origin",
        )
        assert stopped.json["phase"] == "closed"
        assert psutil.Process(gateway.process.pid).net_connections("inet") == []
        assert part.read_bytes() == CONTENT[:100_000]
        site.hold_at = None
        gateway.open("remote/atlas.h5ad")
        assert site.asked[-1]["range"] == "bytes=100000-"


def test_a_copy_that_appears_while_it_is_downloaded_does_not_begin_it_anew(
    tmp_path: Path, site: Site, options: list[str]
) -> None:
    site.hold_at = 100_000
    with running_gateway(tmp_path, *options) as gateway:
        until_share(gateway)
        before = gateway.instances()[0]["id"]
        (tmp_path / "cache" / "remote" / "atlas.h5ad").write_bytes(b"")
        gateway.get(VIEW, **PAGE)
        assert (gateway.instances()[0]["id"], len(site.asked)) == (before, 1)


def test_a_problem_is_a_page_with_a_next_step_and_trying_again_goes_on(
    tmp_path: Path, site: Site, options: list[str]
) -> None:
    site.stop_at = 100_000
    with running_gateway(tmp_path, *options) as gateway:
        gateway.get(VIEW, **PAGE)
        until_now(lambda: gateway.phase("remote/atlas.h5ad") == "failed")
        page = gateway.get(VIEW, **PAGE)
        assert page.status == 502
        assert "atlas: this dataset could not be downloaded (the connection broke off)" in page.text
        assert "goes on where it stopped" in page.text
        assert SECRET not in page.text
        site.stop_at = None
        identifier = gateway.instances()[0]["id"]
        gateway.post(f"/api/instances/{identifier}/retry", {"_xsrf": gateway.xsrf()}, Sec_Fetch_Site="same-origin")
        gateway.open("remote/atlas.h5ad")
        assert site.asked[-1]["range"] == "bytes=100000-"


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, site: Site, options: list[str]) -> None:
    with running_gateway(tmp_path, *options) as gateway:
        psutil.Process(gateway.process.pid).rlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        gateway.get(VIEW, **PAGE)
        until_now(lambda: gateway.phase("remote/atlas.h5ad") == "failed")
        page = gateway.get(VIEW, **PAGE).text
        assert "its copy cannot be written: File too large" in page
        assert "Make room" in page
        assert gateway.get("/api/health").status == 200


def test_a_large_download_is_not_held_in_memory(tmp_path: Path, site: Site) -> None:
    site.content = bytes(120_000_000)  # beyond the limit that tornado's own client has
    with running_gateway(tmp_path, "--remote", f"atlas={site.address}") as gateway:
        process = psutil.Process(gateway.process.pid)
        before = process.memory_info().rss
        gateway.get(VIEW, **PAGE)
        most = before
        while gateway.phase("remote/atlas.h5ad") != "ready":
            most = max(most, process.memory_info().rss)
        assert most - before < 16e6


def test_labels_stay_with_the_dataset_wherever_the_cache_is(tmp_path: Path, site: Site, options: list[str]) -> None:
    folders = set()
    for user in ("ana", "ben"):
        (tmp_path / user).mkdir()
        with running_gateway(tmp_path / user, *options) as gateway:
            gateway.open("remote/atlas.h5ad")
            argv = next(each.cmdline() for each in gateway.workers() if "serve" in each.cmdline())
            labels = Path(argv[argv.index("--labels") + 1])
            assert labels.parent == tmp_path / user / "labels"
            assert argv[-1] == str(tmp_path / user / "cache" / "remote" / "atlas.h5ad")
            folders.add(labels.name)
            labels.mkdir(parents=True)
            (labels / "cell-labels.csv").write_text("")
            until_now(lambda: card(gateway)["labels_saved"] is not None)
    assert len(folders) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"['http://h/{SECRET}']", "NAME=URL"),
        (f"{{'a': ['http://h/{SECRET}']}}", "NAME=URL"),
        (f"{{'a': 'ftp://h/{SECRET}'}}", "'a' is not one that begins with http(s)://"),
        (f"{{'http://h/{SECRET}': 'x'}}", "a dataset's name is short"),
        (f"{{'.a': 'http://h/{SECRET}'}}", "a dataset's name is short"),
        (f"{{'a': 'http://h/{SECRET}'}}; c.Gateway.libraries = {{'remote': '/tmp'}}", "no library can be called"),
    ],
)
def test_a_wrong_address_in_the_configuration_is_told_without_it(text: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "cxg_proxy_config.py"
    config.write_text(f"c.Gateway.remotes = {text}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "cxg_proxy", f"--config={config}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=10,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_remote_datasets_are_a_library_of_their_own_with_hostile_names_too(tmp_path: Path) -> None:
    library = Library({"data": tmp_path}, copies=tmp_path / "copies", remotes=["a b", "größe?", "a~41"])
    for path in library.remotes:
        dataset = library.find(library.remote(path).address)
        assert (dataset.library, dataset.path, dataset.there) == ("remote", path, False)
    assert library.names == ["data", "remote"]
