"""The metadata file of a store: a small .h5ad of all that the viewer shows of a dataset except its matrix.

HDF5 copies the tables unchanged, so that anndata reads the same from the copy as from the file, of any AnnData version.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import h5py

from cxg_proxy.viewer.source import embeddings
from cxg_proxy.viewer.source.matrix import Source, own
from cxg_proxy.viewer.source.metadata import described

from .array_files import explained, problem

_SAMPLE = 1000  # rows from which the length of the text in all rows is estimated
_HEADER_BYTES = 2000  # about what HDF5 takes for a group or a dataset


def write(file: Any, source: Source, path: Path, dataset: str, label: str) -> None:
    """Write the small file of an open dataset; raises NoRoom or StoreNotWritten about `label`, or `h5ad.ERRORS`."""
    with explained(label):
        out = _Out(path)
    with out:
        try:
            with h5py.File(out, "w", track_order=True) as small:
                fill(file, source, small, dataset)
        finally:
            # An error that HDF5 raised is only a consequence of this failure.
            if out.failure is not None:
                raise problem(label, out.failure) from out.failure
        with explained(label):
            os.fsync(out.fileno())


def fill(file: Any, source: Source, small: Any, dataset: str) -> None:
    """Copy everything but the matrix of an open dataset, whose path is `dataset`, into the open file `small`."""
    for name, value in file.attrs.items():
        small.attrs[name] = value
    for name, table in (("obs", own(file, file["obs"], dataset)), ("var", source.var)):
        file.copy(table, small, name)
        if isinstance(table, h5py.Group):
            _point(table, small[name])
    obsm, uns = (small.create_group(name, track_order=True) for name in ("obsm", "uns"))
    for group in (obsm, uns):
        group.attrs["encoding-type"], group.attrs["encoding-version"] = "dict", "0.1.0"
    for name, array in embeddings.read(file, source.shape[0], dataset):
        obsm.create_dataset(name, data=array)
        obsm[name].attrs["encoding-type"], obsm[name].attrs["encoding-version"] = "array", "0.2.0"
    for name, entry in described(file, dataset):
        file.copy(entry, uns, name)


def estimate(file: Any, source: Source, dataset: str) -> int:
    """Estimate the bytes that the small file of an open dataset will take."""
    tables = [own(file, file["obs"], dataset), source.var, *(entry for _, entry in described(file, dataset))]
    parts: dict[str, Any] = {}
    for table in tables:
        parts[table.name] = table
        if isinstance(table, h5py.Group):
            table.visititems(lambda _, part: parts.update({part.name: part}))
    stored = sum(_stored(part) for part in parts.values() if isinstance(part, h5py.Dataset))
    embedded = source.shape[0] * embeddings.COLUMNS * sum(kind.itemsize for kind in embeddings.kinds(file).values())
    return stored + embedded + _HEADER_BYTES * len(parts)


def _stored(part: Any) -> int:
    """Return the bytes of a dataset's values.

    HDF5 stores variable-length text elsewhere in the file, with 16 more bytes for each value; its length is estimated.
    """
    held = int(part.id.get_storage_size())
    if not part.dtype.hasobject or not part.size or not part.shape:
        return held
    some = part[:_SAMPLE]
    fields = [some[name] for name in some.dtype.names] if some.dtype.names else [some]
    lengths = [len(value) + 16 + 7 for field in fields for value in field.flat if isinstance(value, bytes | str)]
    return held + sum(lengths) * int(part.size) // int(some.size)


def _point(table: Any, copy: Any) -> None:
    """Let the categorical columns of AnnData 0.6 and 0.7 refer to their categories, as in the original."""
    for name in table:
        column = table[name]  # unlike `items`, this raises an error for a link to nowhere
        labels = column.attrs.get("categories")
        if isinstance(labels, h5py.Reference):
            place = table.file[labels].name.removeprefix(f"{table.name}/")
            copy[name].attrs["categories"] = copy[place].ref


class _Out(io.FileIO):
    """A file for HDF5 to write to that stores a failure instead of raising it, after which HDF5 would never finish."""

    def __init__(self, path: Path):
        self.failure: OSError | None = None
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "r+")

    def write(self, content: Any) -> int:
        """Write all of the content, or store the failure."""
        view = memoryview(content).cast("B")
        size = len(view)
        while view and self.failure is None:
            try:
                view = view[super().write(view) :]
            except OSError as error:
                self.failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file, or store the failure."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0
