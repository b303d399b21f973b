"""Thousands of random rounds of saving and killing: nothing that was ever current is lost, torn or left lying about.

Every save is made by a process of its own that is killed at one of its calls to the file system, or at any instant,
or that is refused one call. This process only looks, with a memory of its own of what was current when.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxg_proxy import annotations
from cxg_proxy.annotations import DATASET, GENE_SETS, LABELS, history, retention
from places import WORKERS
from processes import environment

ROUNDS = 2000
NOW = 1_700_000_000.0
WRITER = WORKERS / "killed_writer.py"
KINDS = {LABELS: "labels", GENE_SETS: "gene-sets"}


def content(name: str, number: int) -> str:
    """A small file that differs from that of every other number."""
    if name == LABELS:
        return f"index,kind\na,{number}\nb,unassigned\n"
    return f"gene_set_name,gene_set_description,gene_symbol,gene_description\nset {number},,CD3E,\n"


class Writer:
    """The program that is forked for every save."""

    def __init__(self, errors: Path) -> None:
        command = [sys.executable, str(WRITER)]
        pipe = subprocess.PIPE
        self._errors = errors
        with errors.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment())

    def round(self, where: Path, acts: list[dict[str, Any]]) -> list[int]:
        """Have these done at once; how each has ended."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"where": str(where), "acts": acts}) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))

    def said(self) -> str:
        """The end of what the saves have said."""
        return self._errors.read_text()[-300:]

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder where fsync costs nothing, if this machine has one."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="cxgt-", dir=shared if os.access(shared, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def writer(place: Path) -> Iterator[Writer]:
    with contextlib.closing(Writer(place / "errors")) as running:
        yield running


# How a save may be disturbed: killed at a call, half-way through a write, at an instant; refused a call; or not at all.
DISTURBED = st.one_of(
    st.tuples(st.sampled_from(["kill", "half", "full"]), st.integers(1, 45)),
    st.tuples(st.just("time"), st.integers(1, 60)),  # tenths of a millisecond
    st.tuples(st.just("not"), st.just(0)),
)
SAVES = st.fixed_dictionaries(
    {
        "do": st.just("save"),
        "name": st.sampled_from([LABELS, LABELS, GENE_SETS]),
        "number": st.integers(0, 3),
        "cells": st.sampled_from(["ab", "ab", "ab", "bc"]),  # of the file that is at the path
        "disturbed": DISTURBED,
    }
)
RESTORES = st.fixed_dictionaries({"do": st.just("restore"), "which": st.integers(0, 9), "disturbed": DISTURBED})
EDITS = st.fixed_dictionaries(
    {"do": st.just("edit"), "name": st.sampled_from([LABELS, GENE_SETS]), "number": st.integers(4, 5)}
)
STEPS = st.one_of(
    st.lists(SAVES, min_size=1, max_size=1),
    st.lists(SAVES, min_size=2, max_size=2),
    st.lists(st.one_of(RESTORES, EDITS), min_size=1, max_size=1),
)
SECONDS_LATER = st.sampled_from([1, 1, 2, 45, 1300, 30_000])


@dataclass
class Watched:
    """One folder, and what is known of it: what was ever current, in order, and what was ever in the history."""

    where: Path
    now: float = NOW
    current: dict[str, list[str]] = field(default_factory=lambda: {LABELS: [], GENE_SETS: []})
    filed: dict[str, dict[str, str]] = field(default_factory=lambda: {LABELS: {}, GENE_SETS: {}})
    unfiled: dict[str, dict[str, str]] = field(default_factory=lambda: {LABELS: {}, GENE_SETS: {}})
    thinned: set[str] = field(default_factory=set)
    found: set[str] = field(default_factory=set)

    def live(self, name: str) -> str | None:
        found = annotations.read(self.where, name)
        return None if found is None else found.decode()

    def ever_kept(self, name: str) -> list[str]:
        """What the history has ever held, in its own order."""
        stamped = {key.removeprefix("unfiled-"): text for key, text in self.unfiled[name].items()}
        return once([text for _, text in sorted({**stamped, **self.filed[name]}.items())])

    def act(self, step: dict[str, Any]) -> dict[str, Any] | None:
        """A step as the writer wants it; None if there is nothing to restore."""
        how, at = step["disturbed"]
        act = {"do": step["do"], "how": how, "at": at, "now": self.now}
        if step["do"] == "save":
            text = content(step["name"], step["number"])
            return {**act, "name": step["name"], "content": text, "cells": step["cells"]}
        versions = annotations.versions(self.where)
        if not versions:
            return None
        version = versions[step["which"] % len(versions)]
        name = next(name for name, kind in KINDS.items() if kind == version.kind)
        text = annotations.read_version(self.where, version.id).decode()
        return {**act, "name": name, "version": version.id, "content": text}

    def edit(self, name: str, number: int) -> None:
        """Write over the file as a person's editor does; what it held then is kept only if a save had looked at it."""
        self.where.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.where / name).write_text(content(name, number))
        was = self.current[name]
        if was and self.ever_kept(name)[-1:] != was[-1:]:
            was.pop()
        self.current[name] = once([*was, content(name, number)])

    def look(self, acts: list[dict[str, Any]], statuses: list[int]) -> None:
        """Check the folder after a round."""
        listed = self.listed()
        for name in KINDS:
            self.look_at_history(name, listed)
            done = [(act["content"], status) for act, status in zip(acts, statuses, strict=True) if act["name"] == name]
            live, ever = self.live(name), self.ever_kept(name)
            possible = [once([*self.current[name], *order]) for order in orders(done)]
            fits = [way for way in possible if (way or [None])[-1] == live and ever in (way, way[:-1])]
            assert fits, f"{name} is {live!r}, its history {ever}; possible was {possible}"
            self.current[name] = fits[0]

    def described(self) -> str | None:
        record = annotations.read_record(self.where)
        return record.identifiers if record else None

    def both(self) -> tuple[str | None, ...]:
        return tuple(map(self.live, KINDS))

    def look_at_other_cells(self, identifiers: str | None, saved: tuple[str | None, ...]) -> None:
        """After saves for other cells alone: what was saved for those of before is there still, or with its like."""
        if identifiers is None or self.described() == identifiers:
            assert identifiers is None or self.both() == saved
            return
        found = annotations.same_cells(self.where.parent, identifiers, excluding=self.where)
        texts = [[annotations.read(folder, name) for name in KINDS] for folder, _ in found]
        assert saved in [tuple(text and text.decode() for text in each) for each in texts]

    def listed(self) -> dict[str, tuple[str, str]]:
        """Every version's file and text; each must be listed, be read, and be what gzip says it is."""
        versions = annotations.versions(self.where)
        kinds = {kind: name for name, kind in KINDS.items()}
        texts = {each.id: (kinds[each.kind], annotations.read_version(self.where, each.id)) for each in versions}
        files = {**visible(self.where / history.FOLDER, ".csv.gz"), **visible(self.where, ".csv", "unfiled-")}
        assert set(texts) == set(files)
        self.found |= {each.id for each in versions if each.origin == "found" and not each.id.startswith("unfiled-")}
        assert {key for key, file in files.items() if file.name.endswith("-found.csv.gz")} == self.found & set(files)
        for key, file in files.items():
            packed = file.read_bytes()
            assert texts[key][1] == (gzip.decompress(packed) if file.suffix == ".gz" else packed)
        return {key: (name, text.decode()) for key, (name, text) in texts.items()}

    def look_at_history(self, name: str, listed: dict[str, tuple[str, str]]) -> None:
        """A version that has gone must be one that thinning lets go."""
        now = {key: text for key, (kind, text) in listed.items() if kind == name}
        gone = {key for key in self.filed[name] if key not in now and key not in self.thinned}
        union = [named(key, found=key in self.found) for key in {*gone, *now}]
        allowed = {version.name for version in retention.to_remove(union, round(self.now * 1000), history.LIMIT)}
        assert gone <= allowed, "a version was lost"
        self.thinned |= gone
        self.unfiled[name] = {key: text for key, text in now.items() if key.startswith("unfiled-")}
        self.filed[name].update({key: text for key, text in now.items() if key not in self.unfiled[name]})

    def finish(self) -> None:
        """An hour later, the next saves leave nothing behind that is no version."""
        for file in self.where.rglob(".*"):
            if file.name != ".lock":
                os.utime(file, (time.time() - 7200,) * 2, follow_symlinks=False)
        record = annotations.DatasetRecord("pbmc.h5ad", "/data/pbmc.h5ad")
        for name in KINDS:
            text = content(name, 9).encode()
            annotations.write(self.where, name, text, now=self.now + 9, record=lambda: record, patience=1)
        self.now += 9
        last = [{"name": name, "content": content(name, 9)} for name in KINDS]
        self.look(last, [0, 0])
        assert sorted(os.listdir(self.where)) == sorted([*KINDS, DATASET, history.FOLDER])
        assert not [file for file in os.listdir(self.where / history.FOLDER) if not file.endswith(".csv.gz")]
        assert annotations.read_record(self.where) is not None
        for name in KINDS:
            assert self.ever_kept(name) == self.current[name]


def visible(folder: Path, end: str, start: str = "") -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = [file for file in folder.iterdir() if file.name.startswith(start) and not file.name.startswith(".")]
    names = {file.name.removesuffix(".gz").removesuffix(".csv"): file for file in found if file.name.endswith(end)}
    return {name.removesuffix("-found"): file for name, file in names.items()}


def named(key: str, *, found: bool) -> retention.VersionFile:
    stamp, rest = key.removeprefix("unfiled-").split("-", 1)
    kind, digest, stored = rest.rsplit("-", 2)
    return retention.VersionFile(stamp, kind, digest, int(stored), key, found=found)


def once(texts: list[str]) -> list[str]:
    """Without those that equal the one before them."""
    return [text for text, _ in itertools.groupby(texts)]


def orders(done: list[tuple[str, int]]) -> list[list[str]]:
    """What may have become current, one after the other: what succeeded, and what was killed or refused perhaps."""
    found = []
    for order in itertools.permutations(done):
        choices = [[[text]] if status == 0 else [[], [text]] for text, status in order]
        found += [[text for part in way for text in part] for way in itertools.product(*choices)]
    return found


def run(writer: Writer, where: Path, rounds: list[tuple[list[dict[str, Any]], int]]) -> int:
    """Go through the rounds in a new folder; how many saves were made."""
    watched, count = Watched(where), 0
    for steps, seconds in rounds:
        watched.now += seconds
        if steps[0]["do"] == "edit":
            watched.edit(steps[0]["name"], steps[0]["number"])
            acts: list[dict[str, Any]] = []
        else:
            acts = [act for act in map(watched.act, steps) if act]
        before, saved = watched.described(), watched.both()
        statuses = writer.round(where, acts)
        for act, status in zip(acts, statuses, strict=True):
            assert status in ENDS[act["how"]], f"{act} ended with {status}: {writer.said()}"
        watched.look(acts, statuses)
        cells = [act.get("cells") for act in acts]  # a restore names none
        if all(cells) and before not in map(annotations.identifiers_digest, filter(None, cells)):
            watched.look_at_other_cells(before, saved)
        count += bool(acts)
    watched.finish()
    return count


# A save that nobody disturbed succeeds whatever happened to those before it, and beside it: the lock is never stuck.
ENDS = {"not": {0}, "kill": {0, -9}, "half": {0, -9}, "time": {0, -14}, "full": {0, 3}}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_thousands_of_saves_killed_anywhere_lose_tear_and_leave_nothing(writer: Writer, place: Path) -> None:
    folders = itertools.count()
    rounds = 0

    @given(st.lists(st.tuples(STEPS, SECONDS_LATER), min_size=8, max_size=14))
    @settings(max_examples=ROUNDS // 8, deadline=None, suppress_health_check=list(HealthCheck))
    def one_folder(some: list[tuple[list[dict[str, Any]], int]]) -> None:
        nonlocal rounds
        home = place / str(next(folders))
        rounds += run(writer, home / "pbmc", some)
        shutil.rmtree(home)

    while rounds < ROUNDS:
        one_folder()
