import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy.errors import DatasetNotFound, NotReadable
from cxg_proxy.gateway.library.dataset import PLAIN, escape, possible_names, unescape
from cxg_proxy.gateway.library.library import Library
from cxg_proxy.gateway.library.scan import Scan
from datasets import HOSTILE


def names(library: Library, limit: int = 1000) -> list[str]:
    scan = Scan(library, limit)
    scan.run(0)
    return [dataset.name for dataset in scan.datasets]


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw))
def test_any_name_survives_its_way_through_an_address(raw: bytes) -> None:
    name = os.fsdecode(raw)
    assert unescape(escape(name)) == name
    assert set(escape(name).encode()) <= PLAIN | {ord("~")}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_name_is_found_by_its_own_link_and_by_a_typed_one(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    library = Library({"data": tmp_path})
    assert library.find("data/" + escape(name)).path == name
    assert library.find("data/" + quote(os.fsencode(name))).path == name
    assert names(library) == [f"data/{name}"]


def test_a_typed_name_that_looks_like_an_escape_means_itself_if_only_that_exists(tmp_path: Path) -> None:
    (tmp_path / "a~41.h5ad").write_bytes(b"")
    assert Library({"data": tmp_path}).find("data/a~41.h5ad").path == "a~41.h5ad"
    assert possible_names("a~41") == ("aA", "a~41")


@pytest.mark.parametrize(
    "address",
    [
        "data/../secret.h5ad",
        "data/x/../../secret.h5ad",
        "data/%2e%2e/secret.h5ad",
        "data/~2E~2E/secret.h5ad",
        "data//secret.h5ad",
        "data/~00.h5ad",
        "data/%00.h5ad",
        "data/.hidden/x.h5ad",
        "other/x.h5ad",
        "data",
        "data/",
        "",
        "/data/x.h5ad",
        "data/nothing.h5ad",
        "data/folder.h5ad",
        "data/pipe.h5ad",
        "data/loop.h5ad",
        "data/x.txt",
        "data/" + "x" * 300 + ".h5ad",
        "~2E~2E/secret.h5ad",
    ],
)
def test_nothing_outside_a_library_is_ever_found(address: str, tmp_path: Path) -> None:
    (tmp_path / "secret.h5ad").write_bytes(b"")
    root = tmp_path / "data"
    (root / ".hidden").mkdir(parents=True)
    (root / ".hidden" / "x.h5ad").write_bytes(b"")
    (root / "folder.h5ad").mkdir()
    (root / "x.txt").write_bytes(b"")
    (root / "loop.h5ad").symlink_to(root / "loop.h5ad")
    os.mkfifo(root / "pipe.h5ad")
    with pytest.raises(DatasetNotFound):
        Library({"data": root}).find(address)


def test_a_symlink_out_of_the_library_is_followed_only_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.h5ad").write_bytes(b"")
    root = tmp_path / "data"
    root.mkdir()
    (root / "link.h5ad").symlink_to(tmp_path / "outside" / "x.h5ad")
    (root / "folder").symlink_to(tmp_path / "outside")
    free, strict = Library({"data": root}), Library({"data": root}, follow_symlinks=False)
    assert names(free) == ["data/link.h5ad", "data/folder/x.h5ad"]
    assert free.find("data/folder/x.h5ad").real == tmp_path / "outside" / "x.h5ad"
    assert names(strict) == []
    for address in ("data/link.h5ad", "data/folder/x.h5ad"):
        with pytest.raises(DatasetNotFound):
            strict.find(address)


def test_a_symlink_inside_the_library_is_always_fine(tmp_path: Path) -> None:
    (tmp_path / "x.h5ad").write_bytes(b"")
    (tmp_path / "y.h5ad").symlink_to("x.h5ad")
    assert names(Library({"data": tmp_path}, follow_symlinks=False)) == ["data/x.h5ad", "data/y.h5ad"]


def test_an_unreadable_file_is_said_to_be_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.h5ad"
    file.write_bytes(b"")
    file.chmod(0)
    if os.access(file, os.R_OK):  # root may read everything; another user's view is tested with a real one elsewhere
        monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NotReadable, match=r"data/x\.h5ad: the file is not readable by you\."):
        Library({"data": tmp_path}).find("data/x.h5ad")


def test_an_address_is_cut_after_the_dataset_even_below_a_folder_of_that_suffix(tmp_path: Path) -> None:
    (tmp_path / "odd.h5ad").mkdir()
    (tmp_path / "odd.h5ad" / "x.h5ad").write_bytes(b"")
    library = Library({"data": tmp_path})
    assert library.split("data/odd.h5ad/x.h5ad/api/v0.2/schema") == ("data/odd.h5ad/x.h5ad", "api/v0.2/schema")
    assert library.split("data/gone.h5ad/static/y.js") == ("data/gone.h5ad", "static/y.js")
    assert library.split("data/gone.h5ad") == ("data/gone.h5ad", "")
    with pytest.raises(DatasetNotFound):
        library.split("data/static/y.js")


def test_the_walk_skips_hidden_folders_and_ends_in_a_cycle(tmp_path: Path) -> None:
    for folder in ("a/b", ".snapshots/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.h5ad").write_bytes(b"")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    assert names(Library({"data": tmp_path})) == ["data/a/b/x.h5ad"]


def test_a_library_inside_another_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "shared" / "deep").mkdir(parents=True)
    for name in ("mine.h5ad", "shared/b.h5ad", "shared/deep/c.h5ad"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to("shared")
    library = Library({"home": tmp_path, "demo": tmp_path / "shared"})
    assert sorted(names(library)) == ["demo/b.h5ad", "demo/deep/c.h5ad", "home/mine.h5ad"]
    assert library.find("home/shared/b.h5ad").real == library.find("demo/b.h5ad").real  # an old link still works
    same = Library({"one": tmp_path / "shared", "two": tmp_path / "shared"})
    assert sorted(names(same)) == ["one/b.h5ad", "one/deep/c.h5ad", "two/b.h5ad", "two/deep/c.h5ad"]


def test_the_walk_stops_at_its_limit_and_says_so(tmp_path: Path) -> None:
    for n in range(20):
        (tmp_path / f"{n:02}.h5ad").write_bytes(b"")
    scan = Scan(Library({"data": tmp_path}), limit=10)
    scan.run(0)
    assert scan.cut
    assert 0 < len(scan.datasets) <= 10


def test_a_later_walk_sees_what_came_went_and_changed(tmp_path: Path) -> None:
    (tmp_path / "old.h5ad").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    scan = Scan(Library({"data": tmp_path}), limit=100)
    scan.run(0)
    (tmp_path / "old.h5ad").unlink()
    (tmp_path / "sub" / "new.h5ad").write_bytes(b"12")
    scan.run(0)
    assert [(each.name, each.bytes) for each in scan.datasets] == [("data/sub/new.h5ad", 2)]
    (tmp_path / "sub" / "new.h5ad").write_bytes(b"123")
    scan.run(0)
    assert [each.bytes for each in scan.datasets] == [3]


def test_a_folder_that_did_not_change_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.h5ad").write_bytes(b"")
    os.utime(tmp_path, (1, 1))
    scan = Scan(Library({"data": tmp_path}), limit=100)
    scan.run(10**18)
    listed: list[object] = []
    listing = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(path), listing(path))[1])
    scan.run(10**18)
    assert listed == []
    assert len(scan.datasets) == 1


def test_a_root_that_cannot_be_listed_is_a_problem_of_that_root_only(tmp_path: Path) -> None:
    (tmp_path / "x.h5ad").write_bytes(b"")
    scan = Scan(Library({"gone": tmp_path / "gone", "data": tmp_path}), limit=100)
    scan.run(0)
    assert scan.problems == {"gone": f"{tmp_path / 'gone'}: No such file or directory"}
    assert [each.name for each in scan.datasets] == ["data/x.h5ad"]


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "x.h5ad"
    file.write_bytes(b"1")
    library = Library({"data": tmp_path})
    before = library.find("data/x.h5ad")
    other = tmp_path / "y"
    other.write_bytes(b"1")
    os.utime(other, ns=(before.modified_ns, before.modified_ns))
    other.replace(file)
    assert library.find("data/x.h5ad").fingerprint != before.fingerprint
