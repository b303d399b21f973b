"""Private folders: gone with their block, removed later when their maker was killed, and never somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxg_proxy.files.scratch import ABANDONED_SECONDS, scratch

HOLDER = (
    "import sys; from pathlib import Path; from cxg_proxy.files.scratch import scratch\n"
    "with scratch(Path(sys.argv[1]), 'x-') as folder:\n"
    "    print(folder, flush=True); sys.stdin.read()\n"
)


def swept(base: Path) -> set[Path]:
    """What is left when the next folder has been made and has gone."""
    with scratch(base, "x-") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    return set(base.iterdir())


def test_a_folder_that_is_held_stays_and_that_of_a_killed_program_goes(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout
        folder = Path(holder.stdout.readline().rstrip())
        assert swept(tmp_path) == {folder}
        holder.kill()
        holder.wait()
    assert swept(tmp_path) == set()


def test_neither_what_a_link_leads_to_nor_a_folder_without_a_lock_is_removed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for folder in (other, tmp_path / "x-mine"):
        folder.mkdir()
        (folder / "precious").write_text("mine")
    (other / "lock").write_bytes(b"")
    (tmp_path / "x-link").symlink_to(other)
    before = set(tmp_path.iterdir())
    for folder in before:
        os.utime(folder, (0, -2 * ABANDONED_SECONDS), follow_symlinks=False)
    assert swept(tmp_path) == before
    assert (other / "precious").read_text() == "mine"


def left_behind(folder: Path) -> Path:
    folder.mkdir()
    (folder / "lock").write_bytes(b"")
    return folder


def test_where_there_are_no_locks_only_what_has_been_left_for_long_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    old, young = left_behind(tmp_path / "x-old"), left_behind(tmp_path / "x-young")
    for folder, age in ((old, ABANDONED_SECONDS + 60), (young, ABANDONED_SECONDS - 60)):
        os.utime(folder, (time.time() - age,) * 2)
    assert swept(tmp_path) == {young}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for other users")
def test_what_another_user_left_is_not_ours_to_remove(tmp_path: Path) -> None:
    theirs = left_behind(tmp_path / "x-theirs")
    os.chown(theirs, 65534, 65534)
    left_behind(tmp_path / "x-ours")
    assert swept(tmp_path) == {theirs}
