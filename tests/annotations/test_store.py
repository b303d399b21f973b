"""Labels on disk: where they are, and that they are whole at every instant."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy import annotations
from cxg_proxy.errors import LabelsNotSaved
from places import CHECKOUT


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name_gives_one_safe_directory_below_home(name: bytes) -> None:
    where = annotations.directory(Path("/home/ana"), Path("/data") / os.fsdecode(name))
    assert where.parent == Path("/home/ana")
    assert where.name.isprintable()
    assert not where.name.startswith((".", "-"))
    assert len(os.fsencode(where.name)) < 140


def test_the_directory_is_readable_and_the_same_through_a_link(tmp_path: Path) -> None:
    real = tmp_path / "PBMC 3k (final).h5ad"
    real.touch()
    link = tmp_path / "link.h5ad"
    link.symlink_to(real)
    where = annotations.directory(tmp_path, real)
    assert where.name.startswith("PBMC_3k_final-")
    assert annotations.directory(tmp_path, link) == where
    assert annotations.directory(tmp_path, tmp_path / "other" / real.name) != where


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[0m", "\udcff", "a\u202eb"])
def test_a_name_for_people_is_one_printable_line(name: str) -> None:
    assert annotations.display_name(f"/x/{name}").isprintable()
    annotations.display_name(f"/x/{name}").encode()


def test_what_was_written_is_read_and_only_by_its_owner(tmp_path: Path) -> None:
    where = tmp_path / "a" / "b" / "c"
    assert annotations.read(where, annotations.LABELS) is None
    assert annotations.saved(where) is None
    assert annotations.version(where, annotations.LABELS) is None
    annotations.write(where, annotations.LABELS, b"one")
    first = annotations.version(where, annotations.LABELS)
    annotations.write(where, annotations.LABELS, b"two")
    assert annotations.version(where, annotations.LABELS) != first
    assert annotations.read(where, annotations.LABELS) == b"two"
    assert stat.S_IMODE((where / annotations.LABELS).stat().st_mode) == 0o600
    assert {stat.S_IMODE(level.stat().st_mode) for level in (where, where.parent, where.parent.parent)} == {0o700}
    saved = annotations.saved(where)
    assert saved is not None
    assert abs(saved - time.time()) < 3600


@pytest.mark.hazard(7)
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    annotations.write(tmp_path, annotations.LABELS, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(LabelsNotSaved, match="the version saved before is untouched"):
            annotations.write(tmp_path, annotations.LABELS, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert annotations.read(tmp_path, annotations.LABELS) == b"old"
    assert sorted(os.listdir(tmp_path)) == [annotations.LABELS, "history"]


def test_a_save_that_the_disk_does_not_confirm_is_not_told_to_have_left_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations.write(tmp_path, annotations.LABELS, b"old")
    replace, fsync = os.replace, os.fsync

    def replaced(old: str, new: str, **where: int) -> None:
        replace(old, new, **where)
        if new == annotations.LABELS:
            monkeypatch.setattr(os, "fsync", broken)

    def broken(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(file)

    monkeypatch.setattr(os, "replace", replaced)
    with pytest.raises(LabelsNotSaved, match=r"did not confirm.*\(.*: Input/output error\)") as problem:
        annotations.write(tmp_path, annotations.LABELS, b"new")
    assert "untouched" not in problem.value.sentence
    assert annotations.read(tmp_path, annotations.LABELS) == b"new"
    monkeypatch.undo()
    annotations.write(tmp_path, annotations.LABELS, b"newer")
    kept = [annotations.read_version(tmp_path, each.id) for each in annotations.versions(tmp_path)]
    assert kept == [b"newer", b"new", b"old"]


@pytest.mark.hazard(7)
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cxg_proxy import annotations as kept\n"
        "where = Path(sys.argv[1])\n"
        "while True:\n"
        "    for letter in b'ab': kept.write(where, kept.LABELS, bytes([letter]) * 300_000)\n"
    )
    for delay in (0.0, 0.003, 0.007, 0.011, 0.02, 0.03):
        writer = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=CHECKOUT)
        try:
            before = annotations.version(tmp_path, annotations.LABELS)
            while annotations.version(tmp_path, annotations.LABELS) == before:
                assert writer.poll() is None
            writer_may_go_on = time.monotonic() + delay
            while time.monotonic() < writer_may_go_on:
                content = annotations.read(tmp_path, annotations.LABELS)
                assert content in (b"a" * 300_000, b"b" * 300_000)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert annotations.read(tmp_path, annotations.LABELS) in (b"a" * 300_000, b"b" * 300_000)


def test_what_a_killed_writer_left_is_removed_later(tmp_path: Path) -> None:
    names = (annotations.LABELS, annotations.GENE_SETS, annotations.DATASET, "lock")
    old, young = [[tmp_path / f".{name}.{age}" for name in names] for age in ("old", "young")]
    for each in old + young:
        each.touch()
    for each in old:
        os.utime(each, (time.time() - 7200,) * 2)
    annotations.write(tmp_path, annotations.LABELS, b"x")
    assert not any(each.exists() for each in old)
    assert all(each.exists() for each in young)


def test_what_is_known_of_the_dataset_is_written_beside_its_labels_and_again_when_it_changes(tmp_path: Path) -> None:
    record = annotations.DatasetRecord(
        "a.h5ad", "/data/a\udcff.h5ad", 3, annotations.identifiers_digest(["a", "b", "c"])
    )
    assert annotations.read_record(tmp_path) is None
    annotations.write(tmp_path, annotations.LABELS, b"one", record=lambda: record)
    assert annotations.read_record(tmp_path) == record
    assert b'"cells": 3' in (tmp_path / annotations.DATASET).read_bytes()
    written = os.stat(tmp_path / annotations.DATASET)
    annotations.write(tmp_path, annotations.LABELS, b"two", record=lambda: record)
    assert os.stat(tmp_path / annotations.DATASET) == written
    changed = annotations.DatasetRecord("b.h5ad", "/data/b.h5ad", 4)
    annotations.write(tmp_path, annotations.LABELS, b"three", record=lambda: changed)
    assert annotations.read_record(tmp_path) == changed
    (tmp_path / annotations.DATASET).write_text("[]")
    assert annotations.read_record(tmp_path) is None


def test_labels_are_saved_although_what_they_are_for_cannot_be_written_yet(tmp_path: Path) -> None:
    record = annotations.DatasetRecord("a.h5ad", "/data/a.h5ad", 3)
    (tmp_path / annotations.DATASET).mkdir()
    annotations.write(tmp_path, annotations.LABELS, b"one", record=lambda: record)
    assert annotations.read(tmp_path, annotations.LABELS) == b"one"
    (tmp_path / annotations.DATASET).rmdir()
    annotations.write(tmp_path, annotations.LABELS, b"two", record=lambda: record)
    assert annotations.read_record(tmp_path) == record


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a.h5ad", "path": "/a.h5ad", "cells": "three"}',
        '{"name": "a.h5ad", "path": 1, "cells": 3}',
        '{"name": "' + "a" * 100_000 + '", "path": "/a.h5ad"}',
    ],
    ids=["cells", "path", "large"],
)
def test_what_none_of_our_writers_wrote_of_a_dataset_is_not_believed(text: str, tmp_path: Path) -> None:
    (tmp_path / annotations.DATASET).write_text('{"name": "a.h5ad", "path": "/a.h5ad", "cells": 3}')
    assert annotations.read_record(tmp_path) == annotations.DatasetRecord("a.h5ad", "/a.h5ad", 3)
    (tmp_path / annotations.DATASET).write_text(text)
    assert annotations.read_record(tmp_path) is None


@given(st.lists(st.text()), st.lists(st.text()))
def test_the_digest_of_identifiers_is_that_of_these_cells_in_this_order(some: list[str], others: list[str]) -> None:
    same = annotations.identifiers_digest(some) == annotations.identifiers_digest(others)
    assert same == (some == others)


@pytest.mark.parametrize("name", [annotations.LABELS, annotations.DATASET])
def test_a_pipe_in_place_of_a_file_does_not_hold_up_its_reader_for_ever(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    if name == annotations.DATASET:
        assert annotations.read_record(tmp_path) is None
    else:
        with pytest.raises(OSError, match="not a regular file"):
            annotations.read(tmp_path, name)


def test_a_folder_that_is_a_link_is_neither_written_nor_read_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / annotations.LABELS).write_text("index,a\nc1,x\n")
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(OSError, match="link"):
        annotations.read(tmp_path / "link", annotations.LABELS)
    with pytest.raises(LabelsNotSaved):
        annotations.write(tmp_path / "link", annotations.LABELS, b"new")


def test_a_file_of_labels_that_is_a_link_is_read_and_then_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"theirs")
    where = tmp_path / "labels"
    where.mkdir()
    (where / annotations.LABELS).symlink_to("../elsewhere")
    assert annotations.read(where, annotations.LABELS) == b"theirs"
    annotations.write(where, annotations.LABELS, b"mine")
    assert annotations.read(where, annotations.LABELS) == b"mine"
    assert (tmp_path / "elsewhere").read_bytes() == b"theirs"
    kept = [annotations.read_version(where, each.id) for each in annotations.versions(where)]
    assert kept == [b"mine", b"theirs"]


def test_a_pipe_in_place_of_the_file_does_not_hold_up_a_save_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / annotations.LABELS)
    with pytest.raises(LabelsNotSaved, match="not a regular file"):
        annotations.write(tmp_path, annotations.LABELS, b"new")
