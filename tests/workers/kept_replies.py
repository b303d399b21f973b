"""Kept replies, `kept_replies.py SCENE FOLDER`: checks them on a file system that is full or read-only.

Run it in its own mount namespace; it exits with status 0 if all checks pass.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from cxg_proxy.viewer.cellxgene.reply_files import ReplyFiles

SIZE = 1024 * 1024
REPLY = os.urandom(SIZE // 4)


def mount(folder: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", *options, "tmpfs", folder], check=True)


def full(folder: Path) -> None:
    mount(folder)
    replies = ReplyFiles(folder, "mine")
    for number in range(10):
        replies.put(str(number), "gzip", REPLY)
    there = [number for number in range(10) if replies.get(str(number), "gzip") == REPLY]
    assert there == [0, 1, 2], there
    assert len(os.listdir(folder)) == 3, os.listdir(folder)  # no partial file is left


def read_only(folder: Path) -> None:
    mount(folder)
    ReplyFiles(folder, "mine").put("a", "gzip", REPLY)
    before = os.listdir(folder)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    replies = ReplyFiles(folder, "mine")
    assert replies.get("a", "gzip") == REPLY
    replies.put("b", "gzip", REPLY)
    assert replies.get("b", "gzip") is None
    assert replies.get("a", "gzip") == REPLY
    assert os.listdir(folder) == before


if __name__ == "__main__":
    {"full": full, "read-only": read_only}[sys.argv[1]](Path(sys.argv[2]))
