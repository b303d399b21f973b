"""Prepared stores of others: believed only if nobody can have written them who may not read the dataset."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.viewer.store import permissions
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from cxg_proxy.viewer.store.store import Store
from processes import environment
from stores_fixtures import ANA, BEN, LAB, MEMORY, PLENTY, ignore, names, needs_root, never, total, write

pytest_plugins = ["stores_plugin"]
pytestmark = needs_root
FIND = """
import json, os, sys
from pathlib import Path
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from cxg_proxy.viewer.store.origin import Origin
os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))
there = Stores(Path("/nonexistent"), Path(sys.argv[1]), limit=0, memory=0).find(Origin.of(sys.argv[2]))
print(json.dumps([str(there.folder), float(there.matrix.columns(range(there.shape[1])).sum())] if there else []))
"""


@pytest.fixture(name="source")
def a_dataset_of_ana(site: Path) -> Path:
    file = write(site / "data" / "cells.h5ad")
    os.chown(file, ANA, LAB)
    file.chmod(0o644)
    return file


def prepared(site: Path, source: Path, shared: str = "shared") -> Path:
    """A store that root has prepared, and the shared cache it is in."""
    stores = Stores(site / shared, None, limit=PLENTY, memory=MEMORY, for_others=True)
    folder = stores.make(Origin.of(str(source)), ignore, never).folder
    stores.close()
    return folder


@pytest.fixture(name="found")
def what_somebody_finds(site: Path) -> Callable[..., Any]:
    """What a user finds in the shared cache: the store and the sum of its values, or nothing."""

    def find(source: Path, user: int) -> Any:
        command = [sys.executable, "-c", FIND, site / "shared", source, str(user)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return find


def test_a_store_that_root_prepared_is_used_by_everybody_who_may_read_the_dataset(
    site: Path, source: Path, found: Any
) -> None:
    folder = prepared(site, source)
    for user in (ANA, BEN):
        assert found(source, user)[0] == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o444}


FOREIGN: dict[str, Callable[[Path], object]] = {
    "of another user": lambda folder: os.chown(folder, BEN, LAB),
    "with a file of another user": lambda folder: os.chown(folder / "store.json", BEN, LAB),
    "that the group may change": lambda folder: folder.chmod(0o775),
    "with a file that all may change": lambda folder: (folder / "store.json").chmod(0o646),
    "in a folder that all may change": lambda folder: folder.parent.chmod(0o777),
    "in a cache that all may change": lambda folder: folder.parent.parent.chmod(0o777),
    "below a folder that all may change": lambda folder: folder.parent.parent.parent.chmod(0o777),
    "with a link": lambda folder: (folder / "replies" / "x").symlink_to("/etc/passwd"),
    "with a pipe": lambda folder: os.mkfifo(folder / "pipe"),
}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_store_that_others_may_have_written_is_ignored(
    how: str, site: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepared(site, source)
    stores = Stores(site / "own", site / "shared", limit=PLENTY, memory=MEMORY)
    assert stores.find(Origin.of(str(source)))
    FOREIGN[how](folder)
    assert stores.find(Origin.of(str(source))) is None
    assert "is not used" in caplog.text
    stores.close()


def test_a_store_in_a_folder_where_all_may_add_but_not_replace_is_used(site: Path, source: Path) -> None:
    folder = prepared(site, source)
    folder.parent.chmod(0o1777)
    assert permissions.why_untrusted(folder, str(source), site / "shared") == ""


def test_a_link_to_a_store_elsewhere_is_ignored(site: Path, source: Path) -> None:
    folder = prepared(site, source)
    folder.rename(site / "elsewhere")
    folder.symlink_to(site / "elsewhere")
    assert "neither a file nor a folder" in permissions.why_untrusted(folder, str(source), site / "shared")


@pytest.mark.parametrize(
    ("mode", "readers"),
    [(0o644, "ana lab ben"), (0o640, "ana lab"), (0o600, "ana"), (0o604, "ana"), (0o440, "ana lab")],
)
def test_nobody_reads_a_store_who_may_not_read_the_dataset(mode: int, readers: str, site: Path, source: Path) -> None:
    source.chmod(mode)
    folder = prepared(site, source)
    everybody = {"ana": (ANA,), "lab": (BEN, LAB), "ben": (BEN,)}
    for name, who in everybody.items():
        expected = name in readers.split()
        code = "import os, sys; os.setgroups([int(n) for n in sys.argv[3:]]); os.setgid(int(sys.argv[2])); "
        code += "os.setuid(int(sys.argv[2])); [open(p, 'rb') for p in sys.argv[1].split('|')]"
        files = "|".join(str(path) for path in folder.rglob("*") if path.is_file())
        command = [sys.executable, "-c", code, files, *map(str, [who[0], *who[1:]])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is expected, (name, done.stderr)


def test_what_lies_in_a_private_folder_is_private_whatever_its_own_mode(site: Path, source: Path) -> None:
    private = site / "home"
    private.mkdir(mode=0o700)
    os.chown(private, ANA, ANA)
    inside = private / "open.h5ad"
    shutil.copy(source, inside)
    inside.chmod(0o644)
    os.chown(inside, ANA, LAB)
    assert permissions.readers(str(inside)) == permissions.Readers(ANA, LAB, to_group=False, to_all=False)
    private.chmod(0o710)
    os.chown(private, ANA, LAB)
    assert permissions.readers(str(inside)) == permissions.Readers(ANA, LAB, to_group=True, to_all=False)
    private.chmod(0o755)
    assert permissions.readers(str(inside)).to_all


def test_a_longer_list_of_who_may_read_makes_a_store_its_owners_alone(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert permissions.readers(str(source)).to_all
    monkeypatch.setattr(os, "listxattr", lambda path: ["system.posix_acl_access"] if path == source.resolve() else [])
    assert permissions.readers(str(source)) == permissions.Readers(ANA, LAB, to_group=False, to_all=False)


def test_preparing_again_closes_a_store_whose_dataset_has_been_closed(site: Path, source: Path) -> None:
    folder = prepared(site, source)
    source.chmod(0o600)
    assert prepared(site, source) == folder
    assert stat.S_IMODE((folder / "store.json").stat().st_mode) == 0o400
    assert folder.stat().st_uid == ANA


def test_the_next_preparation_replaces_a_store_that_cannot_be_believed(site: Path, source: Path, found: Any) -> None:
    folder = prepared(site, source)
    expected = found(source, ANA)
    os.chown(folder, BEN, LAB)
    assert prepared(site, source) == folder
    assert found(source, ANA) == expected
    assert names(site / "shared") == [folder.name]


def test_a_prepared_store_comes_before_the_own_one_which_is_made_where_none_can_be_believed(
    site: Path, source: Path
) -> None:
    folder = prepared(site, source)
    stores = Stores(site / "own", site / "shared", limit=PLENTY, memory=MEMORY)
    assert stores.make(Origin.of(str(source)), ignore, never).folder == folder
    assert not (site / "own").exists()
    folder.chmod(0o777)
    made = stores.make(Origin.of(str(source)), ignore, never)
    assert made.folder.parent == site / "own" / "stores"
    folder.chmod(0o755)
    there = stores.find(Origin.of(str(source)))
    assert there is not None
    assert there.folder == folder
    assert total(there) == total(made)
    stores.close()


def test_what_is_added_to_a_new_store_is_there_before_anybody_else_has_it(site: Path, source: Path) -> None:
    source.chmod(0o600)
    seen: list[os.stat_result] = []

    def finish(made: Store) -> None:
        seen.extend(path.stat() for path in (made.folder, made.replies))
        (made.replies / "first").write_text("made by root")

    stores = Stores(site / "shared", None, limit=PLENTY, memory=MEMORY, for_others=True, finish=finish)
    folder = stores.make(Origin.of(str(source)), ignore, never).folder
    assert {found.st_uid for found in seen} == {0}
    added = (folder / "replies" / "first").stat()
    assert (added.st_uid, stat.S_IMODE(added.st_mode)) == (ANA, 0o400)
    assert stores.make(Origin.of(str(source)), ignore, never).folder == folder
    assert len(seen) == 2, "what was there is somebody else's, and root writes nothing into it"
    stores.close()


def secret(site: Path) -> Path:
    """A file that only root may read."""
    path = site / "secret"
    path.write_text("of root")
    path.chmod(0o600)
    return path


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "symbolic": lambda path, target: path.symlink_to(target),
    "of a folder": lambda path, target: path.symlink_to(target.parent),
    "hard": lambda path, target: path.hardlink_to(target),
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_a_link_in_a_store_that_its_owner_has_already_changes_nothing_elsewhere(
    kind: str, mode: int, site: Path, source: Path
) -> None:
    source.chmod(0o640)
    folder, file = prepared(site, source), secret(site)
    LINKS[kind](folder / "replies" / "x", file)
    before = {path: path.lstat() for path in (site, file)}
    source.chmod(mode)
    with pytest.raises(OSError, match=r"link|other names"):
        permissions.share(folder, Origin.of(str(source)))
    for path, was in before.items():
        assert (path.lstat().st_mode, path.lstat().st_uid) == (was.st_mode, was.st_uid)


def test_a_pipe_in_a_store_neither_stops_its_sharing_nor_is_shared(site: Path, source: Path) -> None:
    folder = prepared(site, source)
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        permissions.share(folder, Origin.of(str(source)))


def test_nobody_gets_a_folder_before_all_in_it_is_done(
    site: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(site, source)
    source.chmod(0o600)
    given: list[str] = []
    change = os.fchown

    def fchown(descriptor: int, owner: int, group: int) -> None:
        given.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        change(descriptor, owner, group)

    monkeypatch.setattr(os, "fchown", fchown)
    permissions.share(folder, Origin.of(str(source)))
    everything = [str(path) for path in (folder, *folder.rglob("*"))]
    assert sorted(given) == sorted(everything)
    assert all(given.index(str(Path(path).parent)) > given.index(path) for path in given if path != str(folder))


def test_a_reply_that_gets_its_name_meanwhile_is_no_reason_for_doubt(
    site: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(site, source)
    part = folder / "replies" / "tmpabc.part"
    look = os.lstat

    def lstat(path: Any, **how: Any) -> os.stat_result:
        if Path(path) == part and part.exists():
            part.rename(part.with_name("reply.gzip"))
        return look(path, **how)

    part.write_bytes(b"")
    part.chmod(0o600)
    monkeypatch.setattr(os, "lstat", lstat)
    assert permissions.why_untrusted(folder, str(source), site / "shared") == ""
    assert not part.exists()
