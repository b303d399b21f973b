"""What a power cut may take: no file has a name before its content is on the disk, and no save is done before both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy import annotations
from cxg_proxy.annotations import GENE_SETS, LABELS
from cxg_proxy.annotations.merge import SeenState
from cxg_proxy.files import lock


class Cache:
    """What the system has heard of but the disk has not: content of files by inode, names by their folder's."""

    def __init__(self) -> None:
        self.content: set[int] = set()
        self.names: set[tuple[int, str]] = set()
        self.named_too_early: list[str] = []
        self.replaced_too_early: list[str] = []

    def open(self, real: Callable[..., int], path: Any, flags: int, mode: int = 0o777, **where: Any) -> int:
        opened = real(path, flags, mode, **where)
        if flags & os.O_CREAT:
            self._named(path, where.get("dir_fd"))
        return opened

    def write(self, real: Callable[..., int], file: int, content: bytes) -> int:
        self.content.add(os.fstat(file).st_ino)
        return real(file, content)

    def fsync(self, real: Callable[..., None], file: int) -> None:
        real(file)
        inode = os.fstat(file).st_ino
        self.content.discard(inode)
        self.names = {(folder, name) for folder, name in self.names if folder != inode}

    def unlink(self, real: Callable[..., None], path: Any, **where: Any) -> None:
        status = os.stat(path, dir_fd=where.get("dir_fd"), follow_symlinks=False)
        real(path, **where)
        if status.st_nlink == 1:
            self.content.discard(status.st_ino)

    def mkdir(self, real: Callable[..., None], path: Any, mode: int = 0o777, **where: Any) -> None:
        real(path, mode, **where)
        self._named(path, where.get("dir_fd"))

    def replace(self, real: Callable[..., None], old: Any, new: Any, **where: Any) -> None:
        inode = os.stat(old, dir_fd=where.get("src_dir_fd"), follow_symlinks=False).st_ino
        if inode in self.content and self._counts(new):
            self.named_too_early.append(str(new))
        if new in (LABELS, GENE_SETS) and {name for _, name in self.names} > {old}:
            self.replaced_too_early.append(str(new))
        real(old, new, **where)
        self._named(new, where.get("dst_dir_fd"))

    rename = link = replace

    @staticmethod
    def _counts(path: Any) -> bool:
        """A lock is gone after a power cut, and so it should be."""
        return not os.path.basename(path).startswith(lock.NAME)

    def _named(self, path: Any, folder: int | None) -> None:
        if self._counts(path):
            above, name = os.path.split(path)
            self.names.add((os.stat(above or ".", dir_fd=folder).st_ino, name))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Listens to what this process asks of the system."""
    made = Cache()
    for name in ("open", "write", "fsync", "unlink", "mkdir", "replace", "rename", "link"):
        monkeypatch.setattr(os, name, listening(getattr(made, name), getattr(os, name)))
    return made


def listening(heard: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given, **where: heard(real, *given, **where)


def save_first(where: Path) -> None:
    annotations.write(where, LABELS, b"index,k\na,1\n")


def save_again(where: Path) -> None:
    save_first(where)
    annotations.write(where, LABELS, b"index,k\na,2\n")
    annotations.write(where, GENE_SETS, b"sets")


def save_over_an_edit(where: Path) -> None:
    save_first(where)
    (where / LABELS).write_bytes(b"edited")
    annotations.write(where, LABELS, b"index,k\na,2\n")


def save_without_history(where: Path) -> None:
    save_first(where)
    shutil.rmtree(where / "history")
    (where / "history").write_text("a file where the folder should be")
    (where / LABELS).write_bytes(b"edited")
    annotations.write(where, LABELS, b"index,k\na,2\n")


def save_without_some_cells(where: Path) -> None:
    save_first(where)
    annotations.write(where, LABELS, b"index,k\nb,2\n", seen=SeenState())


def save_for_other_cells(where: Path) -> None:
    for cell in "ab":
        for name, content in ((GENE_SETS, b"sets"), (LABELS, f"index,k\n{cell},1\n".encode())):
            annotations.write(where, name, content, record=of_cell(cell))


def of_cell(cell: str) -> Callable[[], annotations.DatasetRecord]:
    record = annotations.DatasetRecord("pbmc.h5ad", "/pbmc.h5ad", 1, annotations.identifiers_digest([cell]))
    return lambda: record


def restore(where: Path) -> None:
    save_again(where)
    annotations.restore(where, annotations.versions(where)[-1].id)


SAVES = (save_first, save_again, save_over_an_edit, save_without_history, save_without_some_cells)
SAVES += (save_for_other_cells, restore)


@pytest.mark.parametrize("save", SAVES)
def test_no_file_has_its_name_before_its_content_is_on_the_disk(
    save: Callable[[Path], None], cache: Cache, tmp_path: Path
) -> None:
    save(tmp_path / "home" / "pbmc")
    assert cache.named_too_early == []
    assert cache.content & inodes_below(tmp_path) == set()


@pytest.mark.parametrize("save", SAVES)
def test_nothing_is_replaced_before_what_it_was_is_on_the_disk_under_another_name(
    save: Callable[[Path], None], cache: Cache, tmp_path: Path
) -> None:
    save(tmp_path / "home" / "pbmc")
    assert cache.replaced_too_early == []


@pytest.mark.parametrize("save", SAVES)
def test_no_save_ends_before_the_names_of_its_files_are_on_the_disk(
    save: Callable[[Path], None], cache: Cache, tmp_path: Path
) -> None:
    save(tmp_path / "home" / "pbmc")
    there = {tmp_path.stat().st_ino, *inodes_below(tmp_path)}
    assert {name for folder, name in cache.names if folder in there} == set()


def inodes_below(folder: Path) -> set[int]:
    return {each.stat().st_ino for each in folder.rglob("*")}
