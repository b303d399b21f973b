"""The whole expression matrix of a dataset: out of a store, or read into memory where none is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import h5py
from scipy import sparse

try:
    from anndata.io import read_elem
except ImportError:  # before anndata 0.11
    from anndata.experimental import read_elem

from cxg_proxy.viewer.source import h5ad
from cxg_proxy.viewer.source.matrix import check_values, find
from cxg_proxy.viewer.store import matrix
from cxg_proxy.viewer.store.value_range import Spread


@dataclass(frozen=True)
class Whole:
    """The expression of all genes, and what cellxgene takes it for: "normal" or "count"."""

    matrix: matrix.Matrix
    distribution: str


def in_memory(source: str, layer: str | None, report: Callable[[float], None]) -> Whole:
    """Read the matrix of a file into this process's memory, telling the share; raises the Problem that prevents it."""
    try:
        with h5ad.Watched(source, report) as opened, h5py.File(opened, "r") as file:
            found = find(file, layer, source)
            values = read_elem(found.place).astype(found.dtype, copy=False)
        spread = Spread()
        spread.add(values.data if sparse.issparse(values) else values)
        check_values(found.dtype, spread.least, spread.most, source)
        return Whole(matrix.of(values), spread.distribution)
    except h5ad.ERRORS as error:
        raise h5ad.open_problem(source, error) from error
