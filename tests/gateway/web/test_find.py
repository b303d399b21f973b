"""Which dataset a file is, as a whole gateway says it: `api/find`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxg_proxy.gateway.library.dataset import Dataset, escape
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.paths import absolute, find_near
from datasets import HOSTILE, touch
from gateways import Gateway, Reply, Serve, a_serve, find, found, running_gateway  # noqa: F401 - fixtures
from ports import TOKEN, ask, on_a_port
from remote_site import Site, a_site  # noqa: F401 - a fixture
from waiting import until_now

NAMES = [
    *HOSTILE,
    "a?b#c %41 .h5ad",
    "tab\there.h5ad",
    "two\r\nlines.h5ad",
    "two  blanks.h5ad",
    " blanks around .h5ad",
    "bell\a.h5ad",
    "`date` $HOME.h5ad",
    "a+b%2Fc.h5ad",
    "</script><!--.h5ad".replace("/", "∕"),
    "</script>/x.h5ad",
]


def kind(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.problem["kind"]


def serving(gateway: Gateway) -> list[list[str]]:
    """The command lines of the viewers."""
    return [argv for each in gateway.workers() if "serve" in (argv := each.cmdline())]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's folder as the host shows it, with a library beside it."""
    folder = tmp_path_factory.mktemp("home")
    touch(*(folder / "home" / name for name in [*NAMES, "a/pbmc.h5ad", ".cache/hidden.h5ad", "a/table.csv"]))
    touch(folder / "data" / "atlas.h5ad", folder / "elsewhere" / "far.h5ad", folder / "elsewhere" / "x" / "deep.h5ad")
    (folder / "home" / "near.h5ad").symlink_to("../elsewhere/far.h5ad")
    (folder / "home" / "folder").symlink_to("../elsewhere/x")
    (folder / "home" / "hidden.h5ad").symlink_to(".cache/hidden.h5ad")
    (folder / "home" / "dangling.h5ad").symlink_to("../elsewhere/none.h5ad")
    (folder / "shortcut").symlink_to("home")
    (folder / "elsewhere" / "back.h5ad").symlink_to("../home/a/pbmc.h5ad")
    return folder


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[Gateway]:
    with running_gateway(home, f"--root={home / 'home'}", HOME=str(home / "home")) as gateway:
        yield gateway


@pytest.fixture(autouse=True, scope="module")
def _before_the_check(shared: Gateway) -> None:
    """Have the shared gateway running before a test's leftovers are counted."""


@pytest.mark.parametrize("start", ["", "~/", "./", "a/../", "{home}/home/", "/{home}//home/", "{home}/shortcut/"])
def test_a_file_is_found_by_its_path_in_the_hosts_folder_at_home_or_on_the_machine(
    start: str, home: Path, shared: Gateway
) -> None:
    assert found(shared, start.format(home=home) + "a/pbmc.h5ad") == {
        "name": "home/a/pbmc.h5ad",
        "title": "pbmc",
        "file": str(home / "home" / "a" / "pbmc.h5ad"),
        "view": "view/home/a/pbmc.h5ad/",
        "labels": "annotations/home/a/pbmc.h5ad",
        "home": str(home / "labels"),
        "share": "view/home/a/pbmc.h5ad/",
        "phase": "closed",
        "running": False,
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_found_whole_and_its_addresses_answer(name: str, home: Path, shared: Gateway) -> None:
    for path in (name, f"~/{name}", home / "home" / name):
        it = found(shared, path)
        assert (it["name"], it["file"]) == (f"home/{name}", str(home / "home" / name))
        assert it["view"] == f"view/home/{escape(name)}/"
    assert shared.ask("HEAD", "/" + it["view"]).status == 200
    assert shared.get("/" + it["labels"]).status == 200


def test_a_name_is_what_it_says_and_no_address_of_ours(home: Path, shared: Gateway) -> None:
    assert found(shared, "~41.h5ad")["name"] == "home/~41.h5ad"
    assert kind(find(shared, "pl~61in.h5ad")) == (404, "DatasetNotFound")
    assert kind(find(shared, "pl%61in.h5ad")) == (404, "DatasetNotFound")


def test_another_library_is_found_by_its_folder(home: Path, shared: Gateway) -> None:
    assert found(shared, "../data/atlas.h5ad")["name"] == "data/atlas.h5ad"
    assert found(shared, home / "data" / "atlas.h5ad")["view"] == "view/data/atlas.h5ad/"


def test_a_listed_link_is_found_by_its_own_name_and_by_the_place_it_leads_to(home: Path, shared: Gateway) -> None:
    assert found(shared, "near.h5ad")["name"] == "home/near.h5ad"
    assert found(shared, home / "elsewhere" / "far.h5ad")["name"] == "home/near.h5ad"
    assert found(shared, "folder/deep.h5ad")["name"] == "home/folder/deep.h5ad"
    assert found(shared, home / "elsewhere" / "x" / "deep.h5ad")["name"] == "home/folder/deep.h5ad"
    assert found(shared, ".cache/hidden.h5ad")["name"] == "home/hidden.h5ad"
    assert found(shared, home / "elsewhere" / "back.h5ad")["name"] == "home/a/pbmc.h5ad"


def test_two_points_lead_up_from_where_a_link_leads_to(home: Path, shared: Gateway) -> None:
    assert found(shared, "folder/../far.h5ad")["name"] == "home/near.h5ad"
    assert kind(find(shared, "folder/../a/pbmc.h5ad")) == (404, "OutsideLibraries")
    assert absolute("/../../a/b", Path("/c")) == Path("/a/b")
    assert absolute("x/y", Path("/c")) == Path("/c/x/y")


def test_a_disk_that_hangs_keeps_nobody_from_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "near" / "x.h5ad")
    asked: list[str] = []
    resolve = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: (asked.append(str(path)), resolve(path))[1])
    library = Library({"far": tmp_path / "far", "near": tmp_path / "near"})
    assert isinstance(find_near(library, tmp_path / "near" / "x.h5ad"), Dataset)
    assert find_near(library, tmp_path / "near" / "none.h5ad") is None
    assert asked
    assert not [path for path in asked if "far" in path]


@pytest.mark.parametrize("there", ["elsewhere/table.h5ad", "elsewhere/none/../none.h5ad", "none/none.h5ad", "/"])
def test_a_file_in_no_library_is_told_by_its_path_the_libraries_and_what_to_do(
    there: str, home: Path, shared: Gateway
) -> None:
    if there == "elsewhere/table.h5ad":
        touch(home / there)
    reply = find(shared, home / there)
    assert kind(reply) == (404, "OutsideLibraries")
    path = os.path.normpath(home / there)
    assert reply.problem["sentence"] == (
        f"{path}: cellxgene does not show the folder of this file "
        f"(it shows home: {home / 'home'}; data: {home / 'data'})."
    )
    move, ask = reply.problem["steps"]
    assert f"`mv {path} {home / 'home'}/`" in move
    assert f"`ln -s {path} {home / 'home'}/`" in move
    assert "administrator" in ask
    assert "c.Gateway.libraries" in ask


@pytest.mark.parametrize("path", ["gone.h5ad", "a", ".", "a/table.csv", "dangling.h5ad", "x" * 300 + ".h5ad"])
def test_what_is_no_dataset_in_a_library_is_not_found(path: str, shared: Gateway) -> None:
    assert kind(find(shared, path)) == (404, "DatasetNotFound")


def test_a_file_of_another_kind_is_told_why(shared: Gateway) -> None:
    assert "a dataset's name ends in .h5ad" in find(shared, "a/table.csv").problem["sentence"]


@pytest.mark.parametrize("query", ["", "?path=", "?path=a%00b.h5ad", "?other=x"])
def test_a_question_without_a_path_is_told_what_is_missing(query: str, shared: Gateway) -> None:
    reply = shared.get(f"/api/find{query}")
    assert kind(reply) == (400, "BadRequest")
    assert "path" in reply.problem["sentence"]


def test_where_links_may_not_lead_out_nothing_is_told_of_what_they_lead_to(home: Path) -> None:
    with running_gateway(home, f"--root={home / 'home'}", "--Gateway.follow_symlinks=False") as gateway:
        assert found(gateway, "a/pbmc.h5ad")["name"] == "home/a/pbmc.h5ad"
        assert found(gateway, home / "elsewhere" / "back.h5ad")["name"] == "home/a/pbmc.h5ad"
        assert found(gateway, "hidden.h5ad")["name"] == "home/hidden.h5ad"
        for path in ("near.h5ad", "dangling.h5ad", "folder/../far.h5ad"):
            reply = find(gateway, path)
            assert kind(reply) == (404, "OutsideLibraries")
            assert "elsewhere" not in reply.text
            assert "ln -s" not in reply.text
            assert "A link on the way" in reply.text
        for path in ("elsewhere/far.h5ad", "elsewhere/none.h5ad"):
            assert kind(find(gateway, home / path)) == (404, "OutsideLibraries")


def test_a_link_made_while_we_run_is_found_by_the_place_it_leads_to(home: Path, shared: Gateway) -> None:
    touch(home / "elsewhere" / "late.h5ad")
    assert kind(find(shared, home / "elsewhere" / "late.h5ad")) == (404, "OutsideLibraries")
    link = home / "home" / "early.h5ad"
    link.symlink_to(home / "elsewhere" / "late.h5ad")
    until_now(lambda: find(shared, home / "elsewhere" / "late.h5ad").status == 200)
    link.unlink()
    assert find(shared, home / "elsewhere" / "late.h5ad").status == 404  # although the list may still hold it


def test_what_is_shown_alone_is_found_by_its_own_path_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path / "dataset_12.dat", tmp_path / "other.h5ad")
    options = (f"--dataset={tmp_path / 'dataset_12.dat'}", "--title=My cells")
    with running_gateway(tmp_path, *options, library=False) as gateway:
        for path in ("dataset_12.dat", str(tmp_path / "dataset_12.dat")):  # the first from where it was started
            it = found(gateway, path)
            assert (it["title"], it["file"]) == ("My cells", str(tmp_path / "dataset_12.dat"))
            assert it["view"] == "view/dataset/My~20cells.h5ad/"
        until_now(lambda: found(gateway, "dataset_12.dat")["phase"] == "ready")
        reply = find(gateway, "other.h5ad")
        assert kind(reply) == (404, "OutsideLibraries")
        assert f"`cxg-proxy {tmp_path / 'other.h5ad'}`" in reply.problem["steps"][0]
        assert Path(gateway.path).parent.name not in reply.text  # a private folder is nobody's library


def test_a_remote_dataset_is_found_by_the_place_of_its_copy(tmp_path: Path, site: Site) -> None:
    with running_gateway(tmp_path, "--remote", f"atlas={site.address}") as gateway:
        copy = tmp_path / "cache" / "remote" / "atlas.h5ad"
        assert found(gateway, copy)["phase"] == "closed"
        gateway.open("remote/atlas.h5ad")
        it = found(gateway, copy)
        assert (it["name"], it["view"], it["phase"]) == ("remote/atlas.h5ad", "view/remote/atlas.h5ad/", "ready")
        assert kind(find(gateway, "remote/atlas.h5ad")) == (404, "OutsideLibraries")


def test_the_phase_is_that_of_the_viewer_however_the_file_is_named(serve: Serve, tmp_path: Path) -> None:
    gateway = serve("slow", "failing")
    (tmp_path / "data" / "link.h5ad").symlink_to("slow.h5ad")
    gateway.get("/view/data/slow.h5ad/", Accept="text/html")
    it = found(gateway, tmp_path / "data" / "link.h5ad")
    assert (it["phase"], it["running"]) in {("queued", True), ("starting", True), ("loading", True)}
    until_now(lambda: serving(gateway))
    (argv,) = serving(gateway)
    Path(f"{argv[argv.index('--socket') + 1]}.go").touch()
    until_now(lambda: found(gateway, "data/link.h5ad")["phase"] == "ready")
    gateway.get("/view/data/failing.h5ad/", Accept="text/html")
    until_now(lambda: found(gateway, "data/failing.h5ad")["phase"] == "failed")
    assert found(gateway, "data/failing.h5ad")["running"] is False


def test_asking_keeps_no_viewer_alive_and_starts_none(serve: Serve) -> None:
    gateway = serve("pbmc", options=("--idle-seconds=1",))
    assert found(gateway, "data/pbmc.h5ad")["phase"] == "closed"
    assert gateway.instances() == []
    gateway.open("data/pbmc.h5ad")
    used = gateway.instances()[0]["used"]
    assert found(gateway, "data/pbmc.h5ad")["phase"] == "ready"
    assert gateway.instances()[0]["used"] == used
    until_now(lambda: found(gateway, "data/pbmc.h5ad")["phase"] == "closed")


def test_asking_keeps_no_gateway_alive(serve: Serve) -> None:
    gateway = serve("pbmc", options=("--shutdown-when-idle-seconds=1.5",))

    def over() -> bool:
        with contextlib.suppress(OSError):  # it is about to end
            find(gateway, "data/pbmc.h5ad")
        return gateway.process.poll() is not None

    until_now(over)


def test_who_holds_no_token_is_told_nothing(tmp_path: Path) -> None:
    with on_a_port(tmp_path) as port:
        for path in ("pbmc.h5ad", "none.h5ad"):
            assert ask(port, f"/api/find?path={path}").status == 403
        assert ask(port, "/api/find?path=pbmc.h5ad", Authorization=f"token {TOKEN}").status == 200


def test_a_link_with_a_token_leads_on_with_the_path_as_it_was(tmp_path: Path) -> None:
    with on_a_port(tmp_path) as port:
        reply = ask(port, f"/api/find?token={TOKEN}&path=%FF%20%23+.h5ad")
        assert (reply.status, reply.headers["Location"]) == (302, "./find?path=%FF+%23+.h5ad")
