"""Elements of an .h5ad file: anndata's functions that read and write one, with one kind of error for all of theirs.

The module stands alone because it loads anndata, which the summary of a file does without.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import anndata
from anndata._io.specs.registry import IORegistryError

try:
    from anndata import io
except ImportError:  # before anndata 0.11
    from anndata import experimental as io


class Unreadable(ValueError):
    """anndata cannot read or replace an element, because it is of another kind than it should be."""


def read_elem(place: Any) -> Any:
    """Read a group or dataset of an open file, as anndata does; raises Unreadable, or what h5py raises."""
    with _explained():
        return io.read_elem(place)


def write_elem(group: Any, name: str, value: object) -> None:
    """Write a value below a group of an open file, as anndata does; raises Unreadable, or what h5py raises."""
    with _explained():
        io.write_elem(group, name, value)


def read_h5ad(file: Any, **how: Any) -> anndata.AnnData:
    """Read a whole .h5ad file from a path or stream, as anndata does; raises Unreadable, or what h5py raises."""
    with _explained():
        return anndata.read_h5ad(file, **how)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (AttributeError, TypeError, IORegistryError) as error:
        raise Unreadable(str(error) or type(error).__name__) from error
