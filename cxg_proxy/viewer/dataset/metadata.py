"""The metadata of a dataset: everything but its matrix, read from any .h5ad quickly, however large the file is."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import OldFormatWarning

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import NotViewable
from cxg_proxy.viewer.source import cell_names, embeddings, metadata, tables
from cxg_proxy.viewer.source.cell_names import Names
from cxg_proxy.viewer.source.elements import read_elem, read_h5ad
from cxg_proxy.viewer.source.matrix import Source, find, opened, own
from cxg_proxy.viewer.store import metadata_file
from cxg_proxy.viewer.store.origin import Origin
from cxg_proxy.viewer.store.store import Store


@dataclass(frozen=True)
class Metadata:
    """A dataset without its matrix: `data` has obs, var, embeddings, colours and description, and its X is None."""

    data: anndata.AnnData | Tables
    shape: tuple[int, int]  # cells, genes
    dtype: np.dtype[Any]  # of the matrix, as the viewer shows it
    names: Names | None = None  # of the cells, if the index of obs only numbers them


@dataclass
class Tables:
    """The part of an AnnData that the viewer uses, without the cost of creating an AnnData."""

    obs: pd.DataFrame
    var: pd.DataFrame
    obsm: dict[str, Any]
    uns: dict[str, Any]
    X = None

    @property
    def n_obs(self) -> int:
        """The number of cells."""
        return len(self.obs)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of cells and genes."""
        return len(self.obs), len(self.var)

    def obsm_keys(self) -> list[str]:
        """Return the names of the embeddings."""
        return list(self.obsm)

    def uns_keys(self) -> list[str]:
        """Return the names of the entries of uns."""
        return list(self.uns)


def read(origin: Origin) -> Metadata:
    """Read everything but the matrix of an origin, as anndata does; raises the Problem of the file, if any.

    Only the columns of embeddings that cellxgene shows and the entries of uns that it reads are kept. The genes are
    those of the matrix that the layer chooses.
    """
    source = origin.path
    with opened(source) as file:
        found = find(file, origin.layer, source)
        older = isinstance(file["obs"], h5py.Dataset)
        data = _whole(file, found, source) if older else _parts(file, found.var, found.shape[0], source)
    if data.shape != found.shape:  # possible with an index of a kind that `find` does not know
        raise NotViewable(display_name(source), detail=f"its matrix has the shape {found.shape}, not {data.shape}")
    return Metadata(data, found.shape, found.dtype)


def of_store(there: Store) -> Metadata:
    """Read the metadata from a store; raises the Problem of its file, if any."""
    path = there.rest
    if there.names_differ:
        with opened(str(path)) as file:
            if all(cell_names.has_plain_names(file[name]) for name in ("obs", "var")):
                return Metadata(_tables(file, str(path)), there.shape, there.dtype, Names(path))
    return Metadata(read_small(path), there.shape, there.dtype)


def _tables(file: Any, source: str) -> Tables:
    """Read everything but the names of the cells, which are numbered instead."""
    obs = own(file, file["obs"], source)
    order = tables.columns(obs)
    index = pd.RangeIndex(len(obs[tables.index_name(obs)]), name=cell_names.axis_name(obs))
    table = pd.DataFrame({name: read_elem(obs[name]) for name in order}, index=index, columns=order or None)
    uns = {name: read_elem(entry) for name, entry in metadata.described(file, source)}
    return Tables(table, read_elem(file["var"]), dict(embeddings.read(file, len(index), source)), uns)


def read_small(path: Path) -> anndata.AnnData:
    """Read the whole small file of a store, as anndata does; raises the Problem of the file, if any."""
    with opened(str(path)) as file:
        if isinstance(file["obs"], h5py.Dataset):
            with open(path, "rb") as stream:  # given a path, HDF5 would lock the file
                return _read(stream)
        return _parts(file, file["var"], None, str(path))


def _parts(file: Any, var: Any, count: int | None, source: str) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldFormatWarning)
        obs, genes = read_elem(own(file, file["obs"], source)), read_elem(var)
        uns = {name: read_elem(entry) for name, entry in metadata.described(file, source)}
    obsm = dict(embeddings.read(file, len(obs) if count is None else count, source))
    return anndata.AnnData(obs=obs, var=genes, obsm=obsm, uns=uns)


def _whole(file: Any, found: Source, source: str) -> anndata.AnnData:
    """Read a file from before AnnData 0.7, whose parts depend on each other, with anndata from a copy in memory."""
    image = io.BytesIO()
    with h5py.File(image, "w", track_order=True) as copy:
        metadata_file.fill(file, found, copy, source)
    return _read(image)


def _read(stream: Any) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldFormatWarning)
        return read_h5ad(stream)
