"""The making of a store: within its memory, telling how far it is, and leaving none when it does not come to an end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest

from cxg_proxy.errors import ChangedMeanwhile, DamagedFile, NoRoom, Problem, StoreNotWritten
from cxg_proxy.viewer.store import build, store
from cxg_proxy.viewer.store.origin import Origin
from datasets import drawn
from places import CHECKOUT, WORKERS

PROGRAM = WORKERS / "builder.py"
ALONE = ["unshare", "--mount", "--map-root-user"]
MB = 1024**2


@pytest.fixture(scope="module")
def medium(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two million values, which take some blocks."""
    return drawn(tmp_path_factory.mktemp("medium") / "medium.h5ad", 20_000, 1000, "csr")


def started(scene: str, path: Path, folder: Path, memory: int, alone: bool = False) -> list[str]:
    return [*(ALONE if alone else []), sys.executable, str(PROGRAM), scene, str(path), str(folder), str(memory)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["csr", "csc", "dense", "csr packed", "dense packed"])
def test_a_file_larger_than_its_memory_is_built_within_it(kind: str, tmp_path: Path) -> None:
    kind, _, packed = kind.partition(" ")
    how = {"compression": "lzf"} if packed else {}
    genes = 500 if kind == "dense" else 2000
    path = drawn(tmp_path / "large.h5ad", 100_000, genes, kind, **how)
    memory = 48 * MB
    size = 100_000 * genes * 4 if kind == "dense" else 100_000 * genes // 10 * 8
    assert size >= 3 * memory
    command = started("measured", path, tmp_path, memory)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert int(done.stdout) < memory


def test_the_share_that_is_done_rises_to_1(medium: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    build.build(Origin.of(str(medium)), tmp_path, memory=8 * MB, report=shares.append, cancelled=lambda: False)
    assert (shares[0], shares[-1]) == (0, 1)
    assert shares == sorted(shares)
    assert len(set(shares)) == len(shares)


def finished(path: Path, into: Path, limit: int) -> bool:
    """Whether a store is made although it is cancelled when it has asked so many times."""
    asked = iter(range(limit))
    into.mkdir()
    try:
        origin = Origin.of(str(path))
        build.build(origin, into, memory=1, report=lambda _: None, cancelled=lambda: next(asked, None) is None)
    except build.Cancelled:
        return False
    return True


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_it_can_be_cancelled_at_every_step(kind: str, tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.h5ad", 500, 200, kind)
    limits = [0, 1]
    while limits[-1] < 10_000:
        limits.append(sum(limits[-2:]) + 1)
    for limit in limits:
        into = tmp_path / str(limit)
        if finished(path, into, limit):
            break
        assert not (into / store.MANIFEST).exists()
    assert limit > 10
    store.Store.open(into, Origin.of(str(path)).fingerprint)


@pytest.mark.timeout(120)
def test_a_builder_killed_at_any_moment_leaves_no_store(medium: Path, tmp_path: Path) -> None:
    for count in range(1, 6):
        folder = tmp_path / str(count)
        folder.mkdir()
        with subprocess.Popen(started("told", medium, folder, 4 * MB), stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
            for _ in range(count):
                if not process.stdout.readline():
                    break
            process.send_signal(signal.SIGKILL)
        if process.returncode == -signal.SIGKILL and not (folder / "store" / store.MANIFEST).exists():
            with pytest.raises(store.Unusable):
                store.Store.open(folder / "store", Origin.of(str(medium)).fingerprint)
        else:  # it was done before
            store.Store.open(folder / "store", Origin.of(str(medium)).fingerprint)


@pytest.mark.parametrize("scene", ["full", "read-only"])
@pytest.mark.timeout(120)
def test_a_disk_that_cannot_be_written_is_told_and_leaves_no_store(scene: str, tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.h5ad", 5000, 600, "csr")
    command = started(scene, path, tmp_path, 8 * MB, alone=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert "unshare failed" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "vast.h5ad"
    anndata.AnnData(shape=(1000, 10), obsm={"X_umap": np.ones((1000, 2))}).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["var/_index"]
        file["var"].create_dataset("_index", (2**44,), "i1", chunks=(1000,))
        file.create_dataset("X", (1000, 2**44), "f4", chunks=(1000, 1))  # nothing of it is stored
    with pytest.raises(NoRoom, match=r"it takes 70,368,744,178 MB, and [\d,]+ MB are free"):
        make(path, tmp_path / "store")


def make(path: Path, into: Path, report: Callable[[float], None] = lambda _: None) -> None:
    into.mkdir(exist_ok=True)
    build.build(Origin.of(str(path)), into, memory=MB, report=report, cancelled=lambda: False)


def replaced(path: Path, other: Path) -> None:
    shutil.copyfile(path, other)
    os.replace(other, path)


def cut(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def touched(path: Path, other: Path) -> None:
    os.utime(path, ns=(1, 1))


def removed(path: Path, other: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [replaced, cut, touched, removed])
def test_a_file_that_changes_meanwhile_gives_no_store(change: Any, medium: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    shutil.copyfile(medium, path)
    changes = iter([lambda: change(path, tmp_path / "other")])
    with pytest.raises(ChangedMeanwhile, match=r"a\.h5ad"):
        make(path, tmp_path / "store", report=lambda _: next(changes, lambda: None)())
    assert not (tmp_path / "store" / store.MANIFEST).exists()


@pytest.mark.parametrize("change", [replaced, cut, touched])
def test_a_file_that_changes_before_it_is_read_is_not_said_to_be_damaged_and_nothing_is_made_of_it(
    change: Any, medium: Path, tmp_path: Path
) -> None:
    path, into = tmp_path / "a.h5ad", tmp_path / "store"
    shutil.copyfile(medium, path)
    origin = Origin.of(str(path))
    change(path, tmp_path / "other")
    into.mkdir()
    with pytest.raises(ChangedMeanwhile, match=r"a\.h5ad"):
        build.build(origin, into, memory=MB, report=lambda _: None, cancelled=lambda: False)
    assert list(into.iterdir()) == []


def test_a_file_that_is_cut_off_or_gone_is_told(medium: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    shutil.copyfile(medium, path)
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(DamagedFile):
        make(path, tmp_path / "store")
    path.unlink()
    with pytest.raises(Problem, match="no dataset of this name"):
        make(path, tmp_path / "store")


def test_a_chunk_that_cannot_be_unpacked_is_told(tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.h5ad", 1000, 100, "csr", compression="gzip")
    with h5py.File(path, "r+") as file:
        file["X/data"].id.write_direct_chunk((0,), b"not gzip")
    with pytest.raises(DamagedFile):
        make(path, tmp_path / "store")


def test_a_folder_that_is_not_empty_is_not_written_over(medium: Path, tmp_path: Path) -> None:
    make(medium, tmp_path / "store")
    with pytest.raises(StoreNotWritten, match="File exists"):
        make(medium, tmp_path / "store")
