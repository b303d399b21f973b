"""A full disk, `full_disk.py SCENE FOLDER`: checks labels on a file system that is full, read-only or unmounted.

Run it in its own mount namespace; it exits with status 0 if all checks pass.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from cxg_proxy import annotations
from cxg_proxy.errors import LabelsNotSaved

OLD = b"index,mine\n" + b"".join(b"cell#%d,old\n" % number for number in range(5000))
NEW = OLD.replace(b"old", b"a new one")  # larger, so that a truncated file would be a partial one
SIZE = 1024 * 1024
SOME = 6 * 4096  # enough room for a lock and the start of a file


def mount(home: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", *options, "tmpfs", home], check=True)


def fill(home: Path) -> Path:
    """Leave a few blocks free, not enough for a file."""
    filler = home / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(file.tell() - SOME)
    return filler


def refused(where: Path) -> LabelsNotSaved:
    try:
        annotations.write(where, annotations.LABELS, NEW, patience=1)
    except LabelsNotSaved as problem:
        return problem
    raise AssertionError("it was saved")


def whole(where: Path, content: bytes) -> None:
    assert annotations.read(where, annotations.LABELS) == content
    for version in annotations.versions(where):
        annotations.read_version(where, version.id)
    assert [name for name in os.listdir(where) if name.startswith(".")] == []


def full(home: Path) -> None:
    mount(home)
    where = home / "labels"
    annotations.write(where, annotations.LABELS, OLD)
    filler = fill(home)
    assert "No space left on device" in refused(where).sentence
    whole(where, OLD)
    filler.unlink()
    annotations.write(where, annotations.LABELS, NEW)
    whole(where, NEW)
    assert [annotations.read_version(where, each.id) for each in annotations.versions(where)] == [NEW, OLD]
    filler = fill(home)
    first = annotations.versions(where)[-1]
    try:
        annotations.restore(where, first.id, patience=1)
    except LabelsNotSaved:
        whole(where, NEW)
    else:
        raise AssertionError("it was restored")


def read_only(home: Path) -> None:
    mount(home)
    where = home / "labels"
    annotations.write(where, annotations.LABELS, OLD)
    subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)
    assert "Read-only file system" in refused(where).sentence
    whole(where, OLD)
    subprocess.run(["mount", "-o", "remount,bind,rw", home], check=True)
    annotations.write(where, annotations.LABELS, NEW)
    whole(where, NEW)


def vanished(home: Path) -> None:
    """Check a network home that is unmounted and mounted again, while the mount point itself cannot be written."""
    disk = home.parent / "disk"
    disk.mkdir()
    mount(home, "-o", "mode=000")
    mount(disk)
    where = home / "labels"
    subprocess.run(["mount", "--bind", disk, home], check=True)
    annotations.write(where, annotations.LABELS, OLD)
    subprocess.run(["umount", home], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", home], check=True)  # root ignores modes
    assert refused(where).which == annotations.LABELS
    assert annotations.read(where, annotations.LABELS) is None
    subprocess.run(["mount", "--bind", disk, home], check=True)
    whole(where, OLD)
    annotations.write(where, annotations.LABELS, NEW)
    whole(where, NEW)


def worker(home: Path) -> None:
    """Check a full disk through cellxgene: its page receives a sentence that says that the save failed."""
    from viewer_fixtures import cells, worker  # noqa: PLC0415
    from viewer_labels import read, save  # noqa: PLC0415 - only this scene needs cellxgene

    cells().write_h5ad(home.parent / "small.h5ad")
    mount(home)
    with worker(home.parent / "small.h5ad", home / "labels") as server:
        assert save(server, mine=["old"] * 60).status == 200
        filler = fill(home)
        reply = save(server, mine=[os.urandom(500).hex() for _ in range(60)])
        assert reply.status == 507, reply
        assert "could not be saved; the version saved before is untouched" in reply.json["message"]
        assert read(server, "mine") == ["old"] * 60
        filler.unlink()
        assert save(server, mine=["new"] * 60).status == 200
        assert read(server, "mine") == ["new"] * 60


if __name__ == "__main__":
    folder = Path(sys.argv[2]) / "home"
    folder.mkdir()
    {"full": full, "read-only": read_only, "vanished": vanished, "worker": worker}[sys.argv[1]](folder)
