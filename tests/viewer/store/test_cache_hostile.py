"""Others on the same machine: one builds for all, their locks stop nobody, and nothing that they planted is used."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxg_proxy.errors import StoreNotWritten
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from stores_fixtures import ANA, BEN, LAB, MEMORY, PLENTY, Make, ignore, maker, names, needs_root, never, total, write

pytest_plugins = ["stores_plugin"]


def preparing(site: Path) -> Stores:
    return Stores(site / "shared", None, limit=PLENTY, memory=MEMORY, for_others=True)


@pytest.fixture(name="locked")
def a_store_that_a_reader_has_locked(site: Path) -> Iterator[Path]:
    """A prepared store, of `cells.h5ad`, that somebody holds for themselves."""
    stores = preparing(site)
    folder = stores.make(Origin.of(str(write(site / "cells.h5ad"))), ignore, never).folder
    stores.close()
    held = os.open(folder / "store.json", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    yield folder
    os.close(held)


def test_a_prepared_store_that_somebody_has_locked_is_used_all_the_same(
    site: Path, locked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stores = Stores(site / "own", site / "shared", limit=PLENTY, memory=MEMORY)
    there = stores.make(Origin.of(str(site / "cells.h5ad")), lambda _: pytest.fail("it is there"), never)
    assert there.folder == locked
    assert total(there) > 0
    assert "keeps a lock" in caplog.text
    stores.close()


def test_a_prepared_store_that_somebody_has_locked_is_not_prepared_anew(site: Path, locked: Path) -> None:
    before = locked.stat()
    stores = preparing(site)
    assert (
        stores.make(Origin.of(str(site / "cells.h5ad")), lambda _: pytest.fail("it is there"), never).folder == locked
    )
    assert locked.stat().st_ino == before.st_ino
    stores.close()


@needs_root
@pytest.mark.parametrize(("builds", "waits"), [(ANA, 0), (0, BEN)])
def test_two_users_of_a_cache_build_a_store_once_and_both_hear_how_far_it_is(
    builds: int, waits: int, site: Path
) -> None:
    source = write(site / "cells.h5ad")
    os.chown(source, ANA, LAB)
    (site / "shared" / "stores").mkdir(parents=True)
    (site / "shared" / "stores").chmod(0o1777)  # all may add to it, and replace nothing of others
    never_held = 2.0
    with maker(site / "shared", source, 0.3, PLENTY, "others", user=builds) as builder:
        builder.until("done", 0.3)
        with maker(site / "shared", source, never_held, PLENTY, "others", user=waits) as waiting:
            waiting.until("done")
            builder.go_on()
            one, other = builder.until("store"), waiting.until("store")
    assert (one["store"], one["total"]) == (other["store"], other["total"])
    assert set(other["heard"]) < set(one["heard"])  # it built nothing itself
    assert os.stat(one["store"]).st_uid == builds
    assert names(site / "shared") == [Path(one["store"]).name]


def linked(folder: Path) -> None:
    """Somebody's link to a store of one's own, moved elsewhere."""
    folder.rename(folder.parent.parent / "elsewhere")
    folder.symlink_to(folder.parent.parent / "elsewhere")
    os.lchown(folder, BEN, LAB)


PLANTED: dict[str, Callable[[Path], object]] = {
    "the folder": lambda folder: os.chown(folder, BEN, LAB),
    "its description": lambda folder: os.chown(folder / "store.json", BEN, LAB),
    "its values": lambda folder: os.chown(folder / "data", BEN, LAB),
    "the folder of replies": lambda folder: os.chown(folder / "replies", BEN, LAB),
    "a link": linked,
    "a file of its own kind": lambda folder: os.mkfifo(folder / "pipe"),
}


@needs_root
@pytest.mark.parametrize("what", PLANTED)
def test_a_store_in_ones_own_cache_that_somebody_else_has_put_there_is_not_used(
    what: str, source: Path, stores: Stores, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    there = make(source)
    expected = total(there)
    (stores.cache / "stores").chmod(0o1777)
    PLANTED[what](there.folder)
    assert stores.find(Origin.of(str(source))) is None
    assert "cannot be used" in caplog.text
    assert total(make(source)) == expected
    assert stores.find(Origin.of(str(source)))
    assert {path.lstat().st_uid for path in (there.folder, *there.folder.rglob("*"))} == {0}
    assert there.folder.name in names(stores.cache)


def test_a_store_whose_group_may_change_it_is_used_in_ones_own_cache(
    cache: Path, source: Path, stores: Stores, make: Make
) -> None:
    """Kubernetes gives all of a volume to the group of its pods."""
    folder = make(source).folder
    for path in (cache, cache / "stores", folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o660)
        os.chown(path, -1, LAB if os.getuid() == 0 else -1)
    assert stores.find(Origin.of(str(source)))


@needs_root
def test_a_disk_that_gives_all_files_to_one_user_holds_a_cache_all_the_same(
    cache: Path, source: Path, stores: Stores, make: Make
) -> None:
    """Such as a network home, which knows no root."""
    folder = make(source).folder
    for path in (cache, cache / "stores", folder, *folder.rglob("*")):
        os.chown(path, BEN, LAB)
    assert stores.find(Origin.of(str(source)))
    (cache / "stores").chmod(0o777)
    assert stores.find(Origin.of(str(source))) is None


@needs_root
def test_where_not_even_what_was_just_made_can_be_believed_the_reason_is_told(
    cache: Path, source: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "stores").mkdir(parents=True)
    (cache / "stores").chmod(0o777)

    def given_away(self: Path, target: Path) -> None:
        os.rename(self, target)
        os.chown(target, BEN, LAB)

    monkeypatch.setattr(Path, "rename", given_away)
    with pytest.raises(StoreNotWritten, match=f"belongs to user {BEN}"):
        stores.make(Origin.of(str(source)), ignore, never)
