"""A disk that is really full, and a home that is really gone: what was saved before stands, and the next save is whole.

The disk is a small file system in memory, mounted for one child process alone: nothing stays mounted, whatever happens.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from places import CHECKOUT, WORKERS
from processes import ALONE

PROGRAM = WORKERS / "full_disk.py"


@pytest.mark.hazard(7)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("scene", ["full", "read-only", "vanished", "worker"])
def test_a_save_without_a_disk_is_told_and_loses_nothing(scene: str, tmp_path: Path) -> None:
    command = [*ALONE, sys.executable, str(PROGRAM), scene, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    hint = "mounting a file system needs root, or user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
    assert "unshare failed" not in done.stderr, f"{hint}: {done.stderr}"
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "home" / "labels").exists()  # it was there in the namespace only
