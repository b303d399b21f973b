"""Scratch folders: private, and removed with their maker; the next one also removes those of killed programs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ABANDONED_SECONDS = 86_400.0


@contextlib.contextmanager
def scratch(base: Path, prefix: str) -> Iterator[Path]:
    """Create a 0700 folder below `base` for the duration of the block; raises OSError if it cannot be created.

    A lock file in each folder shows whether it was left behind: the lock ends with its holder, however that ends.
    """
    _sweep(base, prefix)
    folder = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=base))
    try:
        with open(folder / "lock", "wb") as lock:
            with contextlib.suppress(OSError):  # some network file systems have no locks; there, the age decides
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Only a locked folder gets the name that `_sweep` looks for.
            folder = folder.rename(base / folder.name[1:])
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(base: Path, prefix: str) -> None:
    for folder in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid() or folder.is_symlink():
                continue
            with open(folder / "lock", "r+b") as lock:
                if _left_behind(lock, folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _left_behind(lock: IO[bytes], folder: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - folder.stat().st_mtime > ABANDONED_SECONDS
    return True
