"""A builder of stores, `builder.py SCENE FILE FOLDER MEMORY`, which reports its results on standard output."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import anndata
import numpy as np
from scipy import sparse

from cxg_proxy.errors import NoRoom, Problem, StoreNotWritten
from cxg_proxy.viewer.store import build, store
from cxg_proxy.viewer.store.origin import Origin


def make(path: str, into: Path, memory: int, report=lambda _: None) -> None:
    into.mkdir()
    build.build(Origin.of(path), into, memory=memory, report=report, cancelled=lambda: False)
    store.Store.open(into, Origin.of(path).fingerprint)


def measured(path: str, folder: Path, memory: int) -> None:
    """Print how much more memory a large dataset takes, after small ones have loaded programs and libraries."""
    for kind in ("csr", "csc"):
        matrix = sparse.random(40, 30, 0.3, kind, "f4")
        anndata.AnnData(matrix, obsm={"X_umap": np.ones((40, 2))}).write_h5ad(folder / f"{kind}.h5ad")
        make(str(folder / f"{kind}.h5ad"), folder / kind, memory)
    # The peak that the system reports (ru_maxrss) starts at the peak of the parent process.
    Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS")
    make(path, folder / "store", memory)
    print(held("VmHWM") - before)


def held(what: str) -> int:
    """Return a figure of this process's memory, such as its current size or its peak, in bytes."""
    return int(Path("/proc/self/status").read_text().partition(f"{what}:")[2].split()[0]) * 1024


def told(path: str, folder: Path, memory: int) -> None:
    """Print each share; this blocks when the reader does not read it."""
    make(path, folder / "store", memory, lambda share: print(share, flush=True))


def refused(kind: type[Problem], path: str, into: Path, memory: int) -> Problem:
    into.mkdir(exist_ok=True)
    try:
        build.build(Origin.of(path), into, memory=memory, report=lambda _: None, cancelled=lambda: False)
    except kind as problem:
        return problem
    raise AssertionError("it was made")


def full(path: str, folder: Path, memory: int) -> None:
    """Check disks with too little room, up to almost enough: each gives an error message, and never a store."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", disk], check=True)
    make(path, disk / "whole", memory)
    needed = sum(file.stat().st_size for file in (disk / "whole").rglob("*") if file.is_file())
    build.array_files.check_room = lambda *_: None  # it would refuse before anything is written
    for number, share in enumerate((0, 0.02, 0.1, 0.3, 0.7, 0.95, 0.999)):
        subprocess.run(
            ["mount", "-o", f"remount,size={int(share * needed / 4096 + 2) * 4096 + needed}", disk], check=True
        )
        into = disk / str(number)
        assert "No space left on device" in refused(NoRoom, path, into, memory).sentence
        assert not (into / store.MANIFEST).exists()
        subprocess.run(["rm", "-r", into], check=True)


def read_only(path: str, folder: Path, memory: int) -> None:
    """Check a cache that cannot be written."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
    assert "Read-only file system" in refused(StoreNotWritten, path, disk, memory).sentence


if __name__ == "__main__":
    scenes = {"measured": measured, "told": told, "full": full, "read-only": read_only}
    scenes[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    sys.stdout.flush()
    os._exit(0) if sys.argv[1] == "told" else None
