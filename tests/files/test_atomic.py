"""Files that are whole at every instant: no name is taken twice, no link is followed, nothing is left beside them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cxg_proxy.files import atomic
from processes import environment


def test_a_name_that_is_taken_is_not_written_to_even_if_a_link_to_nothing_has_it(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nothing")
    with atomic.opened(tmp_path) as folder:
        for name in ("there", "link"):
            with pytest.raises(FileExistsError):
                atomic.create(folder, name, b"other")
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]


def test_a_link_is_read_only_by_who_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with atomic.opened(tmp_path) as folder:
        with pytest.raises(OSError, match="symbolic links"):
            atomic.read(folder, "link")
        assert atomic.read(folder, "link", follow=True) == b"content"


def test_of_a_file_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with atomic.opened(tmp_path) as folder:
        found = [atomic.read(folder, "file", limit=limit) for limit in (0, 3, 7, 8, -1)]
    assert found == [b"", b"con", b"content", b"content", b"content"]


def test_a_replacement_that_is_called_off_at_last_leaves_the_old_file_alone(tmp_path: Path) -> None:
    def stop() -> None:
        assert len(os.listdir(tmp_path)) == 2
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    with atomic.opened(tmp_path) as folder:
        with pytest.raises(KeyboardInterrupt):
            atomic.replace(folder, "file", b"new", at_last=stop)
        assert (tmp_path / "file").read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]
        atomic.replace(folder, "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_only_what_is_old_itself_is_abandoned_whatever_a_link_leads_to(tmp_path: Path) -> None:
    old, young = tmp_path / "old", tmp_path / "young"
    for file in (old, young):
        file.touch()
        (tmp_path / f"link to {file.name}").symlink_to(file)
    for path in (old, tmp_path / "link to young"):
        os.utime(path, (time.time() - 7200,) * 2, follow_symlinks=False)
    with atomic.opened(tmp_path) as folder:
        atomic.remove_abandoned(folder, [*os.listdir(tmp_path), "none"])
    assert sorted(os.listdir(tmp_path)) == ["link to old", "young"]


def test_a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    taken = tmp_path / "new" / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        atomic.write_whole(taken, b"content")
    assert os.listdir(taken.parent) == ["taken"]


def test_a_file_written_whole_is_its_owners_alone_with_the_folder_made_for_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        atomic.write_whole(file, content)
        assert file.read_bytes() == content
    assert os.listdir(file.parent) == ["file"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act for other users")
def test_a_folder_is_made_where_that_is_allowed_though_looking_is_not(tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from cxg_proxy.files import atomic\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "atomic.make(Path('new') / 'deep')\n"
    )
    tmp_path.chmod(0o733)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=20, env=environment())
    assert (tmp_path / "new" / "deep").is_dir()
