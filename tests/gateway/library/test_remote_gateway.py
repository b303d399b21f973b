"""A whole gateway with remote datasets: progress shown, their addresses told nowhere."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from cxg_proxy.gateway.library.library import Library
from gateways import PAGE, Gateway, running_gateway
from remote_site import CONTENT, SECRET, Site, a_site  # noqa: F401 - fixtures
from waiting import until_now

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
    with running_gateway(tmp_path, *options, fresh=True) as gateway:
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
        assert (dataset.library, dataset.path, dataset.exists) == ("remote", path, False)
    assert library.names == ["data", "remote"]
