"""Room for stores: how much they may take together, which give way, and what becomes of those who use them."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxg_proxy.errors import NoRoom, StoreNotWritten
from cxg_proxy.files import atomic
from cxg_proxy.viewer.store import eviction
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.claim import Claim
from cxg_proxy.viewer.store.origin import Origin
from places import WORKERS
from processes import environment
from stores_fixtures import (
    Make,
    ignore,
    maker,
    names,
    never,
    total,
    used,
    write,
)
from waiting import until_now

pytest_plugins = ["stores_plugin"]


def several(folder: Path, make: Make, count: int = 3) -> list[Path]:
    """Datasets with stores, the first one not used for longest."""
    files = [write(folder / f"{number}.h5ad", seed=number) for number in range(count)]
    for number, file in enumerate(files):
        used(make(file).folder, days_ago=100 - number)
    return files


def test_the_stores_that_were_not_used_for_longest_give_way(
    cache: Path, source: Path, tmp_path: Path, stores: Stores, make: Make
) -> None:
    first, second, third = several(tmp_path, make)
    stores.close()
    for file in (first, source):
        assert stores.find(Origin.of(str(file))) or file == source  # the first one is used again
    stores.close()
    needed = eviction.estimate(Origin.of(str(source)))
    stores.limit = needed + sum(kept.bytes for kept in eviction.stores(cache / "stores")) - 1
    make(source)
    found = {file.name for file in (first, second, third, source) if stores.find(Origin.of(str(file)))}
    assert found == {first.name, third.name, source.name}


def test_a_store_that_somebody_uses_is_not_evicted(
    cache: Path, source: Path, tmp_path: Path, stores: Stores, make: Make
) -> None:
    (file,) = several(tmp_path, make, 1)
    stores.close()
    with maker(cache, file) as user:
        user.until("store")
        used(cache / "stores" / Origin.of(str(file)).fingerprint, days_ago=100)
        stores.limit = eviction.estimate(Origin.of(str(source)))
        with pytest.raises(NoRoom, match="--cache-limit is"):
            make(source)
        assert stores.find(Origin.of(str(file)))
        stores.close()
    until_now(lambda: user.process.poll() is not None)
    make(source)
    assert stores.find(Origin.of(str(file))) is None


@pytest.mark.parametrize("how", ["removed", "evicted where nothing can be locked"])
def test_a_store_that_goes_while_it_is_mapped_stays_readable_and_the_next_open_makes_it_right(
    how: str, source: Path, stores: Stores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make(source)
    expected = total(there)
    if how == "removed":
        assert eviction.remove(there.folder)
    else:
        used(there.folder, days_ago=8)
        with monkeypatch.context() as network:
            network.setattr(eviction.fcntl, "flock", refused)
            assert eviction.evict(there.folder)
    assert names(stores.cache) == []
    assert total(there) == expected
    assert stores.find(Origin.of(str(source))) is None
    again = make(source)
    assert names(stores.cache) == [again.folder.name] == [there.folder.name]
    assert total(again) == total(there) == expected
    opened = stores.find(Origin.of(str(source)))
    assert opened is not None
    assert total(opened) == expected


def refused(*_: object) -> None:
    raise OSError(9, "Bad file descriptor")


def test_where_nothing_can_be_locked_age_decides(source: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    there = make(source)
    monkeypatch.setattr(eviction.fcntl, "flock", refused)
    assert eviction.in_use(there.folder)
    os.close(eviction.hold(there.folder))
    used(there.folder, days_ago=8)
    assert eviction.evict(there.folder)


@contextlib.contextmanager
def building(stores: Stores, needed: int, done: float) -> Iterator[Claim]:
    """Somebody who builds the store of another dataset, and has come so far."""
    folder = stores.cache / "stores"
    with atomic.opened(folder) as descriptor:
        claim = Claim(folder, descriptor, "ab" * 20)
        assert claim.granted()
        with claim.held(), claim.site(needed) as site:
            site.write_progress(done)
            yield claim


@pytest.mark.parametrize("done", [0.0, 0.9])
def test_what_others_build_counts_in_full_against_the_limit_however_much_of_it_is_written(
    done: float, source: Path, tmp_path: Path, stores: Stores, make: Make
) -> None:
    several(tmp_path, make, 1)
    stores.close()
    there = eviction.size(next((stores.cache / "stores").iterdir()))
    with building(stores, 100_000_000, done):
        stores.limit = there + 100_000_000 + eviction.estimate(Origin.of(str(source))) - 1
        first = names(stores.cache)
        make(source)  # what was not used for longest has given way
        assert Origin.of(str(tmp_path / "0.h5ad")).fingerprint not in names(stores.cache)
        stores.close()
        shutil.rmtree(stores.cache / "stores" / Origin.of(str(source)).fingerprint)
        stores.limit -= there
        with pytest.raises(NoRoom, match="--cache-limit is"):
            make(source)
        assert len(names(stores.cache)) == len(first) - 1
        stores.limit += 1
        make(source)


def test_what_others_have_written_does_not_count_against_the_disk_once_more(
    source: Path, stores: Stores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stores.cache / "stores").mkdir(parents=True)
    needed = eviction.estimate(Origin.of(str(source)))
    with building(stores, 100_000_000, 0.75):
        monkeypatch.setattr(eviction, "free", lambda _: needed + 25_000_000 - 1)
        with pytest.raises(NoRoom, match="are free on the disk"):
            make(source)
        monkeypatch.setattr(eviction, "free", lambda _: needed + 25_000_000)
        make(source)


def test_a_builder_has_told_what_it_needs_before_it_looks_for_room(
    source: Path, stores: Stores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stores.cache / "stores").mkdir(parents=True)
    needed = eviction.estimate(Origin.of(str(source)))
    look, seen = eviction.stores, []
    with building(stores, 1, 0.0) as other:

        def stores_of(folder: Path) -> list[eviction.CachedStore]:
            seen.append(other.promised())
            return look(folder)

        monkeypatch.setattr(eviction, "stores", stores_of)
        make(source)
    assert seen[0] == (needed, needed)


def test_no_store_is_kept_where_none_may_be(cache: Path, source: Path, stores: Stores, make: Make) -> None:
    stores.limit = 0
    with pytest.raises(NoRoom, match="--cache-limit is 0"):
        make(source)
    assert not cache.exists()


def test_nothing_is_evicted_when_that_would_not_help(
    cache: Path, source: Path, tmp_path: Path, stores: Stores, make: Make
) -> None:
    several(tmp_path, make)
    stores.close()
    before = names(cache)
    stores.limit = eviction.estimate(Origin.of(str(source))) - 1
    with pytest.raises(NoRoom):
        make(source)
    assert names(cache) == before


def test_a_cache_that_cannot_be_written_has_no_room(cache: Path, source: Path, stores: Stores) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(StoreNotWritten, match="Not a directory"):
        stores.make(Origin.of(str(source)), ignore, never)


def test_the_usual_limit_is_half_of_what_the_stores_could_have(cache: Path, source: Path, make: Make) -> None:
    make(source)
    half = (eviction.free(cache) + eviction.size(cache)) // 2  # others write to this disk meanwhile
    assert eviction.usual_limit(cache) == pytest.approx(min(50_000_000_000, half), rel=0.1)


@pytest.mark.timeout(120)
def test_a_disk_that_is_full_while_a_store_is_built_leaves_nothing_of_it(tmp_path: Path) -> None:
    program = WORKERS / "full_cache.py"
    command = ["unshare", "--mount", "--map-root-user", sys.executable, str(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert "unshare failed" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
