"""Versions of labels: which are kept, what they say, and that none is lost or leads elsewhere."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxg_proxy import annotations, changes, history, thinning, whole
from cxg_proxy.annotations import GENE_SETS, LABELS
from cxg_proxy.errors import LabelsNotSaved
from cxg_proxy.thinning import Kept

NOW = datetime(2026, 3, 5, 15, 30, tzinfo=timezone.utc).timestamp()
MINUTE, HOUR, DAY = 60, 3600, 86_400
FAULTY = Path(__file__).parent / "workers" / "faulty_writer.py"


def labels(number: int) -> bytes:
    """A small table that differs from that of every other number."""
    return f"index,kind\na,{number}\nb,unassigned\n".encode()


def contents(where: Path) -> list[bytes]:
    """Every listed version, newest first; each must be readable."""
    return [annotations.read_version(where, version.id) for version in annotations.versions(where)]


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


# --- thinning, as pure arithmetic ----------------------------------------------------------------------------------


def saved_over_time(gaps: list[int], limit: int, size: int = 100) -> tuple[list[Kept], list[Kept], int]:
    """All versions that were saved, those left after thinning at each save, and the last time."""
    everything: list[Kept] = []
    left: list[Kept] = []
    now = round(NOW * 1000)
    for number, gap in enumerate(gaps):
        now += gap
        new = Kept(thinning.stamp(now), "labels", f"{number:016x}", size, f"{number}")
        everything.append(new)
        gone = set(thinning.superfluous([*left, new], now, limit))
        left = [version for version in [*left, new] if version not in gone]
    return everything, left, now


GAPS = st.lists(
    st.one_of(st.integers(1, 5000), st.integers(1, 20 * 60_000), st.integers(1, 3 * DAY * 1000)),
    min_size=1,
    max_size=150,
)


@given(GAPS)
@settings(deadline=None)
def test_thinning_keeps_the_last_of_each_minute_hour_and_day_and_all_of_ten_minutes(gaps: list[int]) -> None:
    everything, left, now = saved_over_time(gaps, 10**12)
    kept = set(left)
    assert everything[-1] in kept
    for version, following in pairwise(everything):
        age = now - thinning.milliseconds(following.stamp)  # it was the current version until then
        letters = 18 if age <= 600_000 else 13 if age <= HOUR * 1000 else 11 if age <= DAY * 1000 else 8
        last_of_its_time = version.stamp[:letters] != following.stamp[:letters]
        if age <= 600_000 or (age <= 365 * DAY * 1000 and last_of_its_time):
            assert version in kept


@given(GAPS)
@settings(deadline=None)
def test_thinning_leaves_one_of_a_minute_then_of_an_hour_then_of_a_day(gaps: list[int]) -> None:
    _, left, now = saved_over_time(gaps, 10**12)
    for older, letters in ((600_000, 13), (HOUR * 1000, 11), (DAY * 1000, 8)):
        # A version counts from the moment when it was replaced, so one more may stand at each border.
        old = [version for version in left[:-2] if thinning.milliseconds(version.stamp) < now - older - DAY * 1000]
        times = [version.stamp[:letters] for version in old]
        assert len(times) == len(set(times))
    recent = sum(now - thinning.milliseconds(version.stamp) <= 600_000 for version in left)
    assert len(left) <= recent + 62 + 26 + 368


@given(GAPS, st.integers(4, 40))
@settings(deadline=None)
def test_the_limit_holds_and_takes_what_lies_between_days_first_and_the_oldest_of_it(
    gaps: list[int], most: int
) -> None:
    everything, _, now = saved_over_time(gaps, 10**12)
    unlimited = set(thinning.superfluous(everything, now, 10**12))
    before = [version for version in everything if version not in unlimited]
    gone = set(thinning.superfluous(before, now, most * 4096))
    left = [version for version in before if version not in gone]
    assert len(left) == min(len(before), most)
    days = {version.stamp[:8]: version for version in before}  # the last of each
    between = [version for version in before if days[version.stamp[:8]] is not version]
    assert [version for version in between if version in gone] == between[: len(gone & set(between))]
    if gone - set(between):
        assert set(between) <= gone
    assert before[-1] in left


def test_a_storm_of_saves_every_two_and_a_half_seconds_leaves_yesterday() -> None:
    yesterday = [0, 30_000, 30_000]
    everything, left, _ = saved_over_time([*yesterday, 20 * HOUR * 1000, *[2500] * 5000], 200 * 4096)
    assert everything[2] in left
    assert len(left) <= 200


def test_who_comes_back_after_two_years_finds_the_version_of_then_after_saving() -> None:
    everything, left, _ = saved_over_time([0, 2 * 365 * DAY * 1000, 2500, 2500], 10**12)
    assert everything[0] in left


def test_saves_every_twenty_seconds_for_days_leave_days_then_hours_then_minutes_then_all() -> None:
    everything, left, now = saved_over_time([20_000] * 13_000, 10**12)
    ages = [(now - thinning.milliseconds(version.stamp)) / 1000 for version in left]
    assert sum(age > DAY + HOUR for age in ages) == 2  # two days have ended more than a day ago
    assert 22 <= sum(HOUR + MINUTE < age <= DAY + HOUR for age in ages) <= 26
    assert 49 <= sum(10 * MINUTE < age <= HOUR + MINUTE for age in ages) <= 53
    assert left[-32:] == everything[-32:]  # what was current ten minutes ago is among them


def test_a_clock_that_was_wrong_once_loses_nothing() -> None:
    future = Kept(thinning.stamp(thinning.milliseconds("20900101T000000.000Z")), "labels", "0" * 16, 1, "future")
    assert thinning.superfluous([future], round(NOW * 1000), 10**9) == []


@given(st.integers(0, 253402300799999))
def test_a_stamp_reads_back_and_sorts(time: int) -> None:
    assert thinning.milliseconds(thinning.stamp(time)) == time
    assert thinning.stamp(max(time - 1, 0)) <= thinning.stamp(time)


# --- what a list shows ---------------------------------------------------------------------------------------------

NAMES = st.text(min_size=1, max_size=6).filter(lambda text: text.isprintable())


def csv_of(cells: list[str], columns: dict[str, list[str]]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["index", *columns])
    rows.writerows(zip(cells, *columns.values(), strict=True))
    return text.getvalue().encode()


@given(st.data(), st.lists(NAMES, min_size=1, max_size=8, unique=True), st.booleans())
@settings(deadline=None)
def test_changes_are_counted_for_any_text_the_same_in_any_order(
    data: st.DataObject, cells: list[str], turn: bool
) -> None:
    label = st.sampled_from(["unassigned", "T cell, naive", 'a "b"', "line\nbreak", "#", "=1"])
    some = st.lists(label, min_size=len(cells), max_size=len(cells))
    old, new = {"k": data.draw(some), "gone": data.draw(some)}, {"k": data.draw(some), "m": data.draw(some)}
    expected = {
        "k": sum(map(str.__ne__, old["k"], new["k"])),
        "gone": sum(text != "unassigned" for text in old["gone"]),
        "m": sum(text != "unassigned" for text in new["m"]),
    }
    if turn:
        new = {name: texts[::-1] for name, texts in new.items()}
    after = csv_of(cells[::-1] if turn else cells, new)
    found = changes.summary(csv_of(cells, old), after, gene_sets=False)
    assert found == changes.Summary(("k", "m"), len(cells), {name: n for name, n in expected.items() if n})


@given(st.lists(st.sampled_from(["unassigned", "T, x", 'a "b"', "line\nbreak"]), min_size=3, max_size=3))
def test_the_short_way_to_count_agrees(texts: list[str]) -> None:
    cells, before = ["a", "b", "c"], ["T, x"] * 3
    found = changes.summary(csv_of(cells, {"k": before}), csv_of(cells, {"k": texts}), gene_sets=False)
    count = sum(map(str.__ne__, before, texts))
    assert found == changes.Summary(("k",), 3, {"k": count} if count else {})


def test_gene_sets_are_counted_by_their_genes() -> None:
    head = b"# Gene sets generated on Monday\ngene_set_name,gene_set_description,gene_symbol,gene_description\n"
    found = changes.summary(head + b"one,,CD3E,\ntwo,,CD4,\n", head + b"one,,CD3E,\none,,CD8A,\n", gene_sets=True)
    assert found == changes.Summary(("one",), 2, {"one": 1, "two": 1})


@given(st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_no_content_keeps_a_version_from_being_described(old: bytes, new: bytes, gene_sets: bool) -> None:
    changes.summary(old, new, gene_sets=gene_sets)


# --- on disk -------------------------------------------------------------------------------------------------------


def test_a_version_says_when_and_what_and_any_gzip_opens_it(tmp_path: Path) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    annotations.write(tmp_path, LABELS, labels(2), now=NOW + 2.5)
    newest, first = annotations.versions(tmp_path)
    assert (newest.kind, newest.time, newest.size, newest.rows) == ("labels", NOW + 2.5, len(labels(2)), 2)
    assert (newest.columns, newest.changed, newest.origin) == (("kind",), {"kind": 1}, "saved")
    assert first.time == NOW
    file = tmp_path / "history" / f"{newest.id}.csv.gz"
    assert gzip.decompress(file.read_bytes()) == labels(2)
    assert file.name.startswith("20260305T153002.500Z-labels-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_same_content_is_kept_once_in_a_row_whatever_the_time_in_its_first_line(tmp_path: Path) -> None:
    for second, number in enumerate((1, 1, 2, 1)):
        head = f"# Annotations generated on {second} using cellxgene version 1.3.0\n# Dataset: x\n".encode()
        annotations.write(tmp_path, LABELS, head + labels(number), now=NOW + second)
    assert [content.split(b"\n", 2)[2] for content in contents(tmp_path)] == [labels(1), labels(2), labels(1)]


def test_a_file_edited_by_hand_is_kept_before_it_is_replaced(tmp_path: Path) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    (tmp_path / LABELS).write_bytes(b"edited by hand")
    annotations.write(tmp_path, LABELS, labels(2), now=NOW + 1)
    assert contents(tmp_path) == [labels(2), b"edited by hand", labels(1)]
    assert [version.origin for version in annotations.versions(tmp_path)] == ["saved", "found", "saved"]


def test_labels_from_before_there_was_a_history_are_kept_too(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_bytes(labels(0))
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    assert contents(tmp_path) == [labels(1), labels(0)]


def test_a_clock_that_goes_back_does_not_change_the_order(tmp_path: Path) -> None:
    for number, seconds in enumerate((0, -100, -200)):
        annotations.write(tmp_path, LABELS, labels(number), now=NOW + seconds)
    assert contents(tmp_path) == [labels(2), labels(1), labels(0)]


def test_restoring_is_a_new_version_and_can_be_undone(tmp_path: Path) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    annotations.write(tmp_path, GENE_SETS, b"sets", now=NOW)
    annotations.write(tmp_path, LABELS, labels(2), now=NOW + 1)
    first = next(each for each in annotations.versions(tmp_path) if each.kind == "labels" and each.time == NOW)
    annotations.restore(tmp_path, first.id, now=NOW + 2)
    assert annotations.read(tmp_path, LABELS) == labels(1)
    newest, replaced, *_ = annotations.versions(tmp_path)
    assert newest.origin == "restored"
    annotations.restore(tmp_path, replaced.id, now=NOW + 3)
    assert annotations.read(tmp_path, LABELS) == labels(2)
    assert annotations.read(tmp_path, GENE_SETS) == b"sets"


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder where fsync costs nothing, if this machine has one."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="cxgt-", dir=shared if os.access(shared, os.W_OK) else tmp_path))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(180)
def test_ten_thousand_saves_stay_below_the_limit_with_yesterday_in_it(in_memory: Path) -> None:
    tmp_path = in_memory
    annotations.write(tmp_path, LABELS, labels(-1), now=NOW - DAY)
    limit = 300 * 4096
    with whole.opened(tmp_path) as folder:  # without the lock and the live file, whose cost is the disk's
        kept = history.History(folder, limit)
        for number in range(10_000):
            kept.keep("labels", labels(number), now=NOW + 2.5 * number, origin="saved", before=labels(number - 1))
    assert used(tmp_path / "history") <= limit
    found = contents(tmp_path)
    assert found[0] == labels(9999)
    assert found[-1] == labels(-1)
    assert 100 < len(found) <= 300


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b", None])
def test_a_damaged_version_is_not_listed_or_not_read_and_hinders_nothing(tmp_path: Path, damage: bytes | None) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    (version,) = annotations.versions(tmp_path)
    file = tmp_path / "history" / f"{version.id}.csv.gz"
    file.write_bytes(file.read_bytes()[:-9] if damage is None else damage)
    with pytest.raises(annotations.NoSuchVersion):
        annotations.read_version(tmp_path, version.id)
    annotations.write(tmp_path, LABELS, labels(2), now=NOW + 1)
    assert annotations.versions(tmp_path)[0].time == NOW + 1


# --- disturbed -----------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["kill", "half", "full", "denied", "ever"])
def test_a_writer_killed_or_refused_at_every_change_of_the_disk_leaves_a_whole_file(in_memory: Path, how: str) -> None:
    writer = subprocess.run(
        [sys.executable, str(FAULTY), str(in_memory), how], capture_output=True, text=True, timeout=280, check=False
    )
    assert writer.returncode == 0, writer.stderr[-3000:]
    assert int(writer.stdout) > 45


def test_a_history_that_cannot_be_written_stops_no_save_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_bytes(labels(0))
    (tmp_path / "history").write_text("a file where the folder should be")
    for number in range(1, 5):
        annotations.write(tmp_path, LABELS, labels(number), now=NOW + number)
    assert annotations.read(tmp_path, LABELS) == labels(4)
    assert contents(tmp_path) == [labels(3), labels(2), labels(1), labels(0)]
    (tmp_path / "history").unlink()
    annotations.write(tmp_path, LABELS, labels(5), now=NOW + 9)
    assert contents(tmp_path) == [labels(number) for number in (5, 4, 3, 2, 1, 0)]
    assert sorted(os.listdir(tmp_path)) == [LABELS, "history"]


def test_links_planted_in_place_of_our_folders_and_files_lead_nowhere(tmp_path: Path) -> None:
    outside, where = tmp_path / "outside", tmp_path / "home" / "data"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    where.mkdir(parents=True)
    (where / "history").symlink_to(outside)
    (where / LABELS).symlink_to(outside / "secret")
    (where / "dataset.json").symlink_to(outside / "new")
    (where / ".lock").symlink_to(outside / "lock")
    about = annotations.About("a.h5ad", "/data/a.h5ad")
    with pytest.raises(LabelsNotSaved):
        annotations.write(where, LABELS, labels(1), now=NOW, patience=0.2)
    (where / ".lock").unlink()
    annotations.write(where, LABELS, labels(1), now=NOW, about=lambda: about)
    (where / "history").unlink()
    annotations.write(where, LABELS, labels(2), now=NOW + 1)
    (where / "history" / f"{thinning.stamp(0)}-labels-{'0' * 16}-1.csv.gz").symlink_to(outside / "secret")
    annotations.write(where, LABELS, labels(3), now=NOW + 1000 * DAY)
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert not any(version.time == 0 for version in annotations.versions(where))


def test_a_link_in_place_of_the_whole_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "outside")
    with pytest.raises(LabelsNotSaved):
        annotations.write(tmp_path / "data", LABELS, labels(1))
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", ".", "..", "a\0b", "history/../../secret", "x" * 300])
def test_only_a_listed_version_can_be_read_or_restored(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    annotations.write(tmp_path / "data", LABELS, labels(1), now=NOW)
    for ask in (annotations.read_version, annotations.restore):
        with pytest.raises(annotations.NoSuchVersion):
            ask(tmp_path / "data", name)
