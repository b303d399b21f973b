"""How much room there is on a disk, and when it is used up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cxg_proxy.files import space


def test_what_only_root_may_still_write_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block, blocks, free, available = 4096, 1000, 300, 200
    found = os.statvfs_result((block, block, blocks, free, available, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    assert space.free_bytes(tmp_path) == available * block


def test_a_disk_without_space_a_used_up_quota_and_a_limit_on_files_are_all_no_room() -> None:
    assert {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} <= space.FULL
    assert not space.FULL & {errno.EIO, errno.EROFS, errno.EACCES}
