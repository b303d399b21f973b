"""The files of a store: what the disk has refused once, although only while they were written, makes no store."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from cxg_proxy.errors import NoRoom, StoreNotWritten
from cxg_proxy.viewer.progress import Progress
from cxg_proxy.viewer.store import array_files


def written(folder: Path, parts: int) -> None:
    """A file of so many parts, each of which the disk is asked to take while the next is written."""
    piece = np.ones(array_files._BLOCK_BYTES, np.uint8)
    with array_files.files(folder, ("values",), "cells.h5ad", Progress(lambda _: None, lambda: False)) as (file,):
        for number in range(parts):
            file.write(piece, number * len(piece))
            while file._flushing is not None and not file._flushing.done():
                pass
        file.finish()


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize(("number", "problem"), [(errno.EIO, StoreNotWritten), (errno.ENOSPC, NoRoom)])
def test_a_disk_that_fails_behind_the_writing_is_told_although_it_says_so_only_once(
    failing: int, number: int, problem: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_files, "_BEHIND", 2 * array_files._BLOCK_BYTES)
    times = iter(range(100))

    def fdatasync(_: int) -> None:
        if next(times) == failing:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with pytest.raises(problem, match=os.strerror(number)):
        written(tmp_path, 8)
    assert next(times) == failing + 1  # nothing is asked of it any more
