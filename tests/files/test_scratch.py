"""Private folders: gone with their block, removed later when their maker was killed, and never somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
