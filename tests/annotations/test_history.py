"""Versions of labels: what they say, and that none is lost or leads elsewhere."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pytest

import cxg_proxy
from cxg_proxy import annotations
from cxg_proxy.annotations import GENE_SETS, LABELS, history, retention
from cxg_proxy.commands.annotations import main
from cxg_proxy.errors import LabelsNotSaved
from cxg_proxy.files import atomic
from places import WORKERS

NOW = datetime(2026, 3, 5, 15, 30, tzinfo=timezone.utc).timestamp()
DAY = 86_400
FAULTY = WORKERS / "faulty_writer.py"


def labels(number: int) -> bytes:
    """A small table that differs from that of every other number."""
    return f"index,kind\na,{number}\nb,unassigned\n".encode()


def contents(where: Path) -> list[bytes]:
    """Every listed version, newest first; each must be readable."""
    return [annotations.read_version(where, version.id) for version in annotations.versions(where)]


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*"))


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


def test_an_edit_in_the_middle_of_a_save_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    fsync = os.fsync

    def slow_fsync(file: int) -> None:
        fsync(file)
        monkeypatch.undo()
        (tmp_path / LABELS).write_bytes(b"edited by hand")

    monkeypatch.setattr(os, "fsync", slow_fsync)
    annotations.write(tmp_path, LABELS, labels(2), now=NOW + 1)
    assert contents(tmp_path) == [labels(2), b"edited by hand", labels(1)]


def test_labels_from_before_there_was_a_history_are_kept_too(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_bytes(labels(0))
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    assert contents(tmp_path) == [labels(1), labels(0)]


def test_what_was_found_on_disk_stays_when_hundreds_of_saves_follow_it_at_once(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_bytes(labels(-1))
    for number in range(300):
        annotations.write(tmp_path, LABELS, labels(number), now=NOW + 2.5 * number)
    annotations.write(tmp_path, LABELS, labels(300), now=NOW + 3600)
    annotations.write(tmp_path, LABELS, labels(301), now=NOW + 10 * DAY)
    assert contents(tmp_path)[-1] == labels(-1)


def test_an_edit_by_hand_that_was_undone_by_a_restore_stays_too(tmp_path: Path) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    (first,) = annotations.versions(tmp_path)
    (tmp_path / LABELS).write_bytes(labels(2))
    annotations.restore(tmp_path, first.id, now=NOW + 60)
    (found,) = [each for each in annotations.versions(tmp_path) if each.origin == "found"]
    for minutes in (12, 60, 30 * 24 * 60):
        annotations.write(tmp_path, LABELS, labels(minutes), now=NOW + 60 * minutes)
        assert labels(2) in contents(tmp_path)
    assert annotations.read_version(tmp_path, found.id) == labels(2)  # by the name it has had from the start


def test_an_edit_by_hand_stays_although_saves_that_had_not_seen_each_other_follow(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_bytes(labels(0))
    for number in (1, 2, 3):
        annotations.write(tmp_path, LABELS, labels(number), seen=annotations.SeenState(), now=NOW + number)
    annotations.write(tmp_path, LABELS, labels(4), now=NOW + 1200)
    lost = [annotations.read_version(tmp_path, each.id) for each in annotations.versions(tmp_path) if each.lost]
    assert lost == [labels(2), labels(0)]


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


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ten_thousand_saves_stay_below_the_limit_with_yesterday_in_it(in_memory: Path) -> None:
    tmp_path = in_memory
    annotations.write(tmp_path, LABELS, labels(-1), now=NOW - DAY)
    limit = 300 * 4096
    with atomic.opened(tmp_path) as folder:  # without the lock and the live file, whose cost is the disk's
        kept = history.History(folder, limit)
        for number in range(10_000):
            kept.add("labels", labels(number), now=NOW + 2.5 * number, origin="saved", before=labels(number - 1))
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


def test_a_version_of_hundreds_of_categories_is_listed_with_all_of_them(tmp_path: Path) -> None:
    names = tuple(f"category with a long name {number}" for number in range(400))
    content = ",".join(("index", *names)) + "\n" + ",".join(("a", *["x"] * len(names))) + "\n"
    annotations.write(tmp_path, LABELS, content.encode(), now=NOW)
    (version,) = annotations.versions(tmp_path)
    assert (version.columns, version.rows, len(version.changed)) == (names, 1, len(names))


def test_a_version_that_unpacks_to_more_than_any_labels_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    monkeypatch.setattr(history, "_MAX_BYTES", len(labels(1)))
    assert contents(tmp_path) == [labels(1)]
    monkeypatch.setattr(history, "_MAX_BYTES", len(labels(1)) - 1)
    with pytest.raises(annotations.NoSuchVersion):
        contents(tmp_path)


def test_who_does_not_know_how_much_room_there_may_be_removes_nothing_for_it(tmp_path: Path) -> None:
    home, dataset = tmp_path / "home", tmp_path / "pbmc.h5ad"
    where = annotations.directory(home, dataset)
    for number in range(6):
        annotations.write(where, LABELS, labels(number), now=NOW + DAY * number)
    for file in (where / "history").iterdir():  # its name tells how large it is
        file.rename(file.with_name(f"{file.name.rpartition('-')[0]}-{history.LIMIT // 3}.csv.gz"))
    first = annotations.versions(where)[-1]
    assert main(["restore", str(dataset), first.id, "--home", str(home)]) == 0
    cxg_proxy.save_labels(dataset, pd.Series(["x", "y"], index=["a", "b"], name="mine"), home=home)
    assert len(annotations.versions(where)) == 8
    annotations.write(where, LABELS, labels(9), history_limit=history.LIMIT)
    assert len(annotations.versions(where)) < 6


# --- disturbed -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
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


def test_versions_beside_a_history_that_cannot_be_written_are_thinned_too(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("a file where the folder should be")
    for number in range(20):
        annotations.write(tmp_path, LABELS, labels(number), now=NOW + number)
    assert len(contents(tmp_path)) == 19
    for day in (1, 2, 3):
        annotations.write(tmp_path, LABELS, labels(-day), now=NOW + day * DAY)
    assert contents(tmp_path) == [labels(-2), labels(-1), labels(19), labels(18)]


def test_what_a_link_leads_to_is_kept_as_a_file_beside_a_history_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(labels(0))
    where = tmp_path / "labels"
    where.mkdir()
    (where / LABELS).symlink_to("../elsewhere")
    (where / "history").write_text("a file where the folder should be")
    annotations.write(where, LABELS, labels(1), now=NOW)
    (tmp_path / "elsewhere").write_bytes(b"edited")
    assert annotations.read(where, LABELS) == labels(1)
    assert contents(where) == [labels(0)]


def test_what_a_killed_writer_left_in_the_history_is_removed_later(tmp_path: Path) -> None:
    annotations.write(tmp_path, LABELS, labels(1), now=NOW)
    old, young = tmp_path / "history" / ".x.old", tmp_path / "history" / ".x.young"
    for each in (old, young):
        each.touch()
    os.utime(old, (old.stat().st_mtime - 7200,) * 2)
    annotations.write(tmp_path, LABELS, labels(2), now=NOW + 1)
    assert (old.exists(), young.exists()) == (False, True)


def test_links_planted_in_place_of_our_folders_and_files_lead_nowhere(tmp_path: Path) -> None:
    outside, where = tmp_path / "outside", tmp_path / "home" / "data"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    where.mkdir(parents=True)
    (where / "history").symlink_to(outside)
    (where / LABELS).symlink_to(outside / "secret")
    (where / "dataset.json").symlink_to(outside / "new")
    (where / ".lock").symlink_to(outside / "lock")
    record = annotations.DatasetRecord("a.h5ad", "/data/a.h5ad")
    with pytest.raises(LabelsNotSaved):
        annotations.write(where, LABELS, labels(1), now=NOW, patience=0.2)
    (where / ".lock").unlink()
    annotations.write(where, LABELS, labels(1), now=NOW, record=lambda: record)
    (where / "history").unlink()
    annotations.write(where, LABELS, labels(2), now=NOW + 1)
    (where / "history" / f"{retention.stamp(0)}-labels-{'0' * 16}-1.csv.gz").symlink_to(outside / "secret")
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
