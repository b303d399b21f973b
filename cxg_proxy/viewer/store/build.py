"""The build of a dataset's column store: in bounded memory, with progress, and cancellable."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cxg_proxy.errors import DamagedFile, DatasetNotFound, NotH5ad, NotViewable
from cxg_proxy.viewer.progress import Cancelled, Progress, Report
from cxg_proxy.viewer.source import cell_names, chunks, h5ad
from cxg_proxy.viewer.source.matrix import Source, check_values, find, opened, status

from . import array_files, metadata_file, store, transpose
from .origin import Origin
from .value_range import ValueRange

__all__ = ["Cancelled", "build"]

_MB = 1024**2
_CHANGED = (DamagedFile, DatasetNotFound, NotH5ad, NotViewable)  # raised for a file that is being written


def build(
    origin: Origin,
    into: Path,
    *,
    memory: int,
    report: Report,
    cancelled: Callable[[], bool],
) -> None:
    """Build the store of `origin` in the empty folder `into`, the manifest last, and flush all of it to the disk.

    `memory` limits the bytes used besides the program itself, but a larger compressed chunk of the file must be held
    all the same. `report` receives the share that is done, from 0 to 1. Raises Cancelled soon after `cancelled`
    returns True, or a Problem (ChangedMeanwhile if the file has changed since `origin` was made); the folder then holds
    no store, and the caller must remove it.
    """
    progress = Progress(report, cancelled)
    with _unchanged(origin):
        manifest = _Build(origin, into, memory, progress).make()
    label = origin.label
    temporary = into / f".{store.MANIFEST}"
    array_files.write_whole(into, temporary.name, manifest.to_bytes(), label, progress)
    with array_files.explained(label):
        os.replace(temporary, into / store.MANIFEST)
    array_files.flush_folder(into, label)
    progress.finished()


@contextlib.contextmanager
def _unchanged(origin: Origin) -> Iterator[None]:
    """Raise ChangedMeanwhile at the end if the file has changed, also in place of a problem that it may explain."""
    h5ad.check(origin.path)
    try:
        yield
    except _CHANGED:
        origin.check_unchanged()
        raise
    origin.check_unchanged()


class _Build:
    """One store while it is built."""

    def __init__(self, origin: Origin, into: Path, memory: int, progress: Progress):
        self._origin = origin
        self._path, self._label = origin.path, origin.label
        self._into = into
        self._memory = memory
        self._progress = progress
        self._spread = ValueRange()

    def make(self) -> store.Manifest:
        """Write every file of the store except the manifest, and return the manifest."""
        with opened(self._path) as file:
            chunk = chunks.chunk_bytes(find(file, self._origin.layer, self._path).place)
        # HDF5's cache must hold the chunk in which one piece ends and the next begins, or it is unpacked twice.
        with opened(self._path, cache=chunk + chunk // 8) as file:
            self._origin.check_unchanged(status(file))
            source = find(file, self._origin.layer, self._path)
            metadata_file.write(file, source, self._into / store.METADATA, self._path, self._label)
            sizes = self._write_matrix(source, max(self._memory // 4, self._memory - 2 * chunk))
            self._origin.check_unchanged(status(file))
        check_values(source.dtype, self._spread.least, self._spread.most, self._path)
        with array_files.explained(self._label):
            (self._into / store.REPLIES).mkdir()
            sizes[store.METADATA] = os.stat(self._into / store.METADATA).st_size
            checksums = {name: store.checksum(self._into / name) for name in sizes if name in store.SMALL}
        return store.Manifest(
            store.FORMAT,
            self._origin.fingerprint,
            "dense" if source.kind == "dense" else "sparse",
            source.shape,
            source.dtype.str,
            self._spread.distribution,
            cell_names.are_unique(self._into / store.METADATA),
            sizes,
            checksums,
        )

    def _write_matrix(self, source: Source, memory: int) -> dict[str, int]:
        kind = "dense" if source.kind == "dense" else "sparse"
        large = [name for name in store.ARRAYS[kind] if name not in store.SMALL]
        with array_files.files(self._into, large, self._label, self._progress) as files:
            if kind == "dense":
                self._write_dense(source, files, memory)
            else:
                self._write_sparse(source, files, memory)
            sizes = {name: file.finish() for name, file in zip(large, files, strict=True)}
        if kind == "sparse":
            sizes["indptr"] = os.stat(self._into / "indptr").st_size
        return sizes

    def _write_dense(self, source: Source, files: list[array_files.ArrayFile], memory: int) -> None:
        count = source.shape[0] * source.shape[1]
        self._expect(count, source.stored.itemsize, source.dtype.itemsize)
        transpose.from_dense(source, files[0], memory, self._progress, self._spread)

    def _write_sparse(self, source: Source, files: list[array_files.ArrayFile], memory: int) -> None:
        matrix = chunks.Compressed(source, self._label)
        twice = matrix.index_bytes if source.kind == "csr" else 0
        self._expect(matrix.size, matrix.piece_bytes + twice, 4 + source.dtype.itemsize)
        writer = transpose.Sparse((files[0], files[1]), memory, self._progress, self._spread)
        indptr = writer.from_rows(source, matrix) if source.kind == "csr" else writer.from_columns(matrix)
        array_files.write_whole(self._into, "indptr", indptr.astype("<i8").data, self._label, self._progress)

    def _expect(self, count: int, read: int, written: int) -> None:
        """Set the amount of work for `count` values, given the bytes read and written for each, and check the room."""
        self._progress.begin(count * (read + 2 * written))  # bytes written count twice: once more when flushed
        array_files.check_room(self._into, count * written, self._label)
