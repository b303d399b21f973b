"""The folder of kept replies: bounded, read with distrust, and no worse than none when nothing can be written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy.viewer.cellxgene.reply_files import Bounds, ReplyFiles
from places import WORKERS
from processes import ALONE, environment


@pytest.fixture(name="folder")
def a_folder(tmp_path: Path) -> Path:
    (tmp_path / "replies").mkdir()
    return tmp_path / "replies"


@given(st.binary(max_size=200), st.sampled_from(["a", "b"]), st.sampled_from(["gzip", "zstd"]))
def test_nothing_but_what_was_kept_there_is_ever_given(content: bytes, asked: str, encoding: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        mine, other = ReplyFiles(Path(place), "mine"), ReplyFiles(Path(place), "other")
        mine.put("a", "gzip", content)
        (file,) = Path(place).iterdir()
        was = file.read_bytes()
        found = content if (asked, encoding) == ("a", "gzip") else None
        assert mine.get(asked, encoding) == found
        assert other.get(asked, encoding) is None
        for made in (content, was + content + b"x", was[len(content) + 1 :], was[:-1]):
            file.write_bytes(made)
            assert mine.get("a", "gzip") is None


def test_the_folder_stays_within_its_bounds(folder: Path) -> None:
    bounds = Bounds(files=5, bytes=600, largest=300)
    mine, former = ReplyFiles(folder, "mine", bounds), ReplyFiles(folder, "former", bounds)
    for number in range(9):
        former.put(str(number), "gzip", b"x" * 40)
    assert len(os.listdir(folder)) == 5
    mine.put("large", "gzip", b"y" * 301)
    assert mine.get("large", "gzip") is None
    for number in range(9):
        mine.put(str(number), "gzip", b"y" * 150)
    assert [mine.get(str(number), "gzip") is not None for number in range(9)] == [True] * 3 + [False] * 6
    assert sum(entry.stat().st_size for entry in os.scandir(folder)) <= 600
    assert former.get("4", "gzip") == b"x" * 40  # what need not go stays


@pytest.mark.parametrize(("mode", "readable"), [(0o700, 0o600), (0o755, 0o644), (0o750, 0o640)])
def test_who_may_read_the_folder_may_read_what_is_in_it(folder: Path, mode: int, readable: int) -> None:
    folder.chmod(mode)
    ReplyFiles(folder, "mine").put("a", "gzip", b"x")
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == readable


def test_parts_whose_writer_was_killed_make_room(folder: Path) -> None:
    for name, seconds in (("old.part", 10_000), ("new.part", 10)):
        (folder / name).write_bytes(b"torn")
        os.utime(folder / name, (os.stat(folder).st_mtime - seconds,) * 2)
    mine = ReplyFiles(folder, "mine", Bounds(files=2))
    mine.put("a", "gzip", b"x")
    assert mine.get("a", "gzip") == b"x"
    assert not (folder / "old.part").exists()
    assert (folder / "new.part").exists()


@pytest.mark.parametrize("scene", ["full", "read-only"])
def test_a_disk_that_takes_nothing_more_gives_what_it_has(scene: str, tmp_path: Path) -> None:
    command = [*ALONE, sys.executable, str(WORKERS / "kept_replies.py"), scene, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []  # it was there in the namespace only


def test_nothing_is_written_beyond_the_first_failure(tmp_path: Path) -> None:
    beside = ReplyFiles(tmp_path / "gone" / "replies", "mine")
    beside.put("a", "gzip", b"x")
    (tmp_path / "gone").mkdir()
    beside.put("a", "gzip", b"x")
    assert beside.get("a", "gzip") is None
    assert list((tmp_path / "gone").iterdir()) == []
