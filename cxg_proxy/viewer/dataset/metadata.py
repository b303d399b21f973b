"""Everything of a dataset but its matrix, read from any .h5ad in a moment, however large the file is."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import OldFormatWarning
from anndata._io.specs.registry import IORegistryError

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import NotViewable
from cxg_proxy.viewer.source import cell_names, h5ad, metadata
from cxg_proxy.viewer.source.cell_names import Names
from cxg_proxy.viewer.source.elements import read_elem
from cxg_proxy.viewer.source.matrix import Source, find, opened, own
from cxg_proxy.viewer.store import metadata_file
from cxg_proxy.viewer.store.store import Store


@dataclass(frozen=True)
class Metadata:
    """A dataset without its matrix. `data` has obs, var, embeddings, colours and description, and X is None."""

    data: anndata.AnnData | Tables
    shape: tuple[int, int]  # cells, genes
    dtype: np.dtype[Any]  # of the matrix, as the viewer shows it
    names: Names | None = None  # of the cells, which obs only numbers then


@dataclass
class Tables:
    """What AnnData would hold, without the cost of making one."""

    obs: pd.DataFrame
    var: pd.DataFrame
    obsm: dict[str, Any]
    uns: dict[str, Any]
    X = None

    @property
    def n_obs(self) -> int:
        """The cells."""
        return len(self.obs)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, genes."""
        return len(self.obs), len(self.var)

    def obsm_keys(self) -> list[str]:
        """The names of the embeddings."""
        return list(self.obsm)

    def uns_keys(self) -> list[str]:
        """The names of what else there is."""
        return list(self.uns)


def read(source: str, layer: str | None) -> Metadata:
    """All but the matrix of an .h5ad file, as anndata reads it; raises the problem that the file has, if any.

    Of the embeddings only the columns that cellxgene shows are kept, and of uns only what it looks at. The genes are
    those of the matrix that `layer` chooses.
    """
    with _told(source), opened(source) as file:
        found = find(file, layer, source)
        older = isinstance(file["obs"], h5py.Dataset)
        data = _whole(file, found, source) if older else _parts(file, found.var, found.shape[0], source)
    if data.shape != found.shape:  # by an index of a kind that `find` does not know
        raise NotViewable(display_name(source), detail=f"its matrix has the shape {found.shape}, not {data.shape}")
    return Metadata(data, found.shape, found.dtype)


def of_store(there: Store) -> Metadata:
    """The same of a store; raises the problem that it has, if any."""
    path = there.rest
    if there.names_differ:
        with _told(str(path)), opened(str(path)) as file:
            if all(cell_names.can_wait(file[name]) for name in ("obs", "var")):
                return Metadata(_tables(file, str(path)), there.shape, there.dtype, Names(path))
    return Metadata(read_small(path), there.shape, there.dtype)


def _tables(file: Any, source: str) -> Tables:
    """All but the names of the cells."""
    obs = own(file, file["obs"], source)
    order = cell_names.columns(obs)
    index = pd.RangeIndex(cell_names.count(obs), name=cell_names.axis_name(obs))
    table = pd.DataFrame({name: read_elem(obs[name]) for name in order}, index=index, columns=order or None)
    uns = {name: read_elem(entry) for name, entry in metadata.described(file, source)}
    return Tables(table, read_elem(file["var"]), dict(metadata.embeddings(file, len(index), source)), uns)


def read_small(path: Path) -> anndata.AnnData:
    """All of the small file of a store, as anndata reads it; raises the problem that it has, if any."""
    with _told(str(path)), opened(str(path)) as file:
        if isinstance(file["obs"], h5py.Dataset):
            with open(path, "rb") as stream:  # a path would be locked
                return _read(stream)
        return _parts(file, file["var"], None, str(path))


def _parts(file: Any, var: Any, count: int | None, source: str) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldFormatWarning)
        obs, genes = read_elem(own(file, file["obs"], source)), read_elem(var)
        uns = {name: read_elem(entry) for name, entry in metadata.described(file, source)}
    obsm = dict(metadata.embeddings(file, len(obs) if count is None else count, source))
    return anndata.AnnData(obs=obs, var=genes, obsm=obsm, uns=uns)


def _whole(file: Any, found: Source, source: str) -> anndata.AnnData:
    """From before AnnData 0.7, when one part held what belongs to another: anndata itself puts all together again."""
    image = io.BytesIO()
    with h5py.File(image, "w", track_order=True) as copy:
        metadata_file.fill(file, found, copy, source)
    return _read(image)


def _read(stream: Any) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldFormatWarning)
        return anndata.read_h5ad(stream)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Tell in the user's words of what this version of anndata does not know."""
    try:
        yield
    except IORegistryError as error:
        raise h5ad.open_problem(path, error) from error
