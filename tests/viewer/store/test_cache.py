"""Stores: found, made by one at a time, bounded, and never trusted when they are no good."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.errors import ChangedMeanwhile, DatasetNotFound
from cxg_proxy.viewer.store import build
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from places import WORKERS
from processes import environment
from stores_fixtures import (
    MEMORY,
    PLENTY,
    Make,
    ignore,
    maker,
    names,
    never,
    total,
    write,
)

pytest_plugins = ["stores_plugin"]


def test_a_store_is_made_once_and_then_found(cache: Path, source: Path, stores: Stores) -> None:
    assert stores.find(Origin.of(str(source))) is None
    heard: list[float] = []
    made = stores.make(Origin.of(str(source)), heard.append, never)
    assert heard[0] == 0.0
    assert heard == sorted(heard)
    assert names(cache) == [made.folder.name] == [Origin.of(str(source)).fingerprint]
    again = stores.make(Origin.of(str(source)), lambda _: pytest.fail("it is there"), never)
    assert again.folder == made.folder
    found = Stores(cache, None, limit=PLENTY, memory=MEMORY).find(Origin.of(str(source)))
    assert found is not None
    assert total(found) == total(made)


def test_two_processes_that_want_the_same_store_build_it_once_and_both_hear_how_far_it_is(
    cache: Path, source: Path
) -> None:
    with maker(cache, source, 0.3) as builder:
        builder.until("done", 0.3)
        with maker(cache, source) as waiting:
            waiting.until("done")
            builder.go_on()
            one, other = builder.until("store"), waiting.until("store")
    assert (one["store"], one["total"]) == (other["store"], other["total"])
    assert set(other["heard"]) < set(one["heard"])  # it built nothing itself
    assert max(one["heard"]) >= 0.3
    assert names(cache) == [Path(one["store"]).name]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_who_waits_takes_over_when_the_builder_dies(end: signal.Signals, cache: Path, source: Path) -> None:
    with maker(cache, source, 0.3) as builder:
        builder.until("done", 0.3)
        with maker(cache, source) as waiting:
            waiting.until("done")
            builder.process.send_signal(end)
            there = waiting.until("store")
            assert max(there["heard"]) > 0.3
    assert names(cache) == [Path(there["store"]).name]


def test_who_waits_can_give_up(cache: Path, source: Path, stores: Stores) -> None:
    with maker(cache, source, 0.3) as builder:
        builder.until("done", 0.3)
        heard: list[float] = []
        with pytest.raises(build.Cancelled):
            stores.make(Origin.of(str(source)), heard.append, lambda: bool(heard))
        builder.go_on()
        builder.until("store")


def test_a_builder_that_is_cancelled_leaves_nothing(cache: Path, source: Path, stores: Stores) -> None:
    heard: list[float] = []
    with pytest.raises(build.Cancelled):
        stores.make(Origin.of(str(source)), heard.append, lambda: len(heard) > 1)
    assert names(cache) == []


@pytest.mark.timeout(120)
def test_killed_at_any_moment_the_next_builder_makes_it_right(cache: Path, source: Path, make: Make) -> None:
    program = WORKERS / "killed_builder.py"
    command = [sys.executable, str(program), str(cache), str(source), "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(line.get("killed", False) for line in lines) > 10
    made = [line for line in lines if "total" in line]
    assert len(made) == 41
    assert {line["total"] for line in made} == {made[0]["total"]}
    name, other = Origin.of(str(source)).fingerprint, write(source.with_name("other.h5ad"))
    assert all(line["names"][0] == name for line in made)
    make(other)  # what was left by one that was killed after its work was done
    assert names(cache) == sorted([name, Origin.of(str(other)).fingerprint])


def test_what_dead_builders_of_other_datasets_left_is_cleared_away_but_nothing_of_the_living(
    cache: Path, source: Path, tmp_path: Path, make: Make
) -> None:
    dead, living = write(tmp_path / "dead.h5ad"), write(tmp_path / "living.h5ad")
    with maker(cache, dead, 0.3) as killed, maker(cache, living, 0.3) as builder:
        for each in (killed, builder):
            each.until("done", 0.3)
        killed.process.kill()
        killed.process.wait()
        assert [name.partition(".")[2][-4:] for name in names(cache)].count("part") == 2
        make(source)
        left = {name.partition(".")[0] for name in names(cache)}
        assert left == {Origin.of(str(source)).fingerprint, Origin.of(str(living)).fingerprint}
        builder.go_on()
        builder.until("store")


def test_a_source_that_is_replaced_while_its_store_is_built_leaves_none(
    cache: Path, source: Path, tmp_path: Path, stores: Stores
) -> None:
    new = write(tmp_path / "new.h5ad", seed=2)

    def replace(done: float) -> None:
        if done > 0.3 and new.exists():
            new.replace(source)

    with pytest.raises(ChangedMeanwhile):
        stores.make(Origin.of(str(source)), replace, never)
    assert names(cache) == []
    stores.make(Origin.of(str(source)), ignore, never)


def test_a_source_that_vanishes_is_told_as_such(cache: Path, source: Path, stores: Stores) -> None:
    with pytest.raises(DatasetNotFound):
        stores.make(Origin.of(str(source)), lambda _: source.unlink(missing_ok=True), never)
    assert names(cache) == []


def test_a_new_file_under_the_same_name_makes_the_store_of_the_old_one_go(
    cache: Path, source: Path, stores: Stores, make: Make
) -> None:
    old = make(source)
    stores.close()
    other = make(write(source.with_name("other.h5ad")))
    write(source, seed=2)
    new = make(source)
    assert names(cache) == sorted([new.folder.name, other.folder.name])
    assert total(old) != total(new)


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "another version", "no folder"])
def test_a_store_that_is_damaged_is_made_anew(damage: str, cache: Path, source: Path, make: Make) -> None:
    there = make(source)
    expected = total(there)
    largest = max((path for path in there.folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    manifest = there.folder / "store.json"
    if damage == "truncated":
        os.truncate(largest, largest.stat().st_size - 1)
    elif damage == "another version":
        manifest.write_text(manifest.read_text().replace(Origin.of(str(source)).fingerprint, "0" * 32))
    elif damage == "no manifest":
        manifest.unlink()
    else:
        shutil.rmtree(there.folder)
        there.folder.write_text("a file where the folder should be")
    assert total(make(source)) == expected
    assert names(cache) == [there.folder.name]


@pytest.mark.parametrize(("function", "name"), [("lstat", "data"), ("stat", "rest.h5ad")])
def test_a_store_that_cannot_be_read_for_once_is_not_removed(
    function: str, name: str, cache: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(Stores(cache, None, limit=PLENTY, memory=MEMORY, for_others=True)) as stores:
        failing = stores.make(Origin.of(str(source)), ignore, never).folder / name
        before, look = failing.parent.stat(), getattr(os, function)

        def fail(path: Any, **how: Any) -> Any:
            return look(path, **how) if path != failing else os.truncate(path, -1)  # raises OSError

        with monkeypatch.context() as hiccup:
            hiccup.setattr(os, function, fail)
            assert stores.find(Origin.of(str(source))) is None
        assert failing.parent.stat() == before
        assert stores.find(Origin.of(str(source)))
