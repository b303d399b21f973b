"""Free space on a disk: how much of it a folder has, and which errors say that it is used up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # no space, no quota, or a limit on the size of a file


def free_bytes(folder: str | Path) -> int:
    """Return how many bytes this user may still write on the disk of a folder; raises OSError."""
    filesystem = os.statvfs(folder)
    return filesystem.f_bavail * filesystem.f_frsize
