"""cellxgene's data adaptor with errors in the user's words: the seam where another way of reading will go in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
from anndata._io.specs.registry import IORegistryError
from server.common.colors import convert_anndata_category_colors_to_cxg_category_colors as converted_colors
from server.common.errors import CellxgeneException, ColorFormatException, PrepareError
from server.data_anndata.anndata_adaptor import AnndataAdaptor

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import BadOptions, NoEmbedding, NotViewable, Problem

from . import reading
from .turns import Turns

TOP_N_MAX = 1000


class Adaptor(AnndataAdaptor):  # type: ignore[misc]  # cellxgene has no types
    """One dataset in memory, as cellxgene's request handlers want it."""

    def __init__(self, locator: Any, config: Any, *, turns: int, report: Callable[[float], None]):
        self._path: str = locator.path
        self._name = display_name(self._path)
        self._report = report
        self._turns = Turns(turns)
        with self._explained():
            super().__init__(locator, config)

    def get_title(self) -> str:
        """The file's name without its ending, printable."""
        return self._name.removesuffix(".h5ad")

    def query_obs_array(self, term_name: str) -> Any:
        """The column; cellxgene reads an attribute here, and a column named like a method gives that method."""
        return self.data.obs[term_name]

    def query_var_array(self, term_name: str) -> Any:
        """The column, as in `query_obs_array`."""
        return self.data.var[term_name]

    def get_colors(self) -> dict[str, Any]:
        """The file's own colours; cellxgene refuses them all, and its page fails, if one category's are unusable."""
        colors: dict[str, Any] = {}
        for key, value in self.data.uns.items():
            try:
                colors.update(converted_colors(SimpleNamespace(obs=self.data.obs, uns={key: value})))
            except (ColorFormatException, AttributeError, TypeError) as error:
                warnings.warn(f"Ignoring uns[{key!r}]: {error}", stacklevel=1)
        return colors

    def get_corpora_props(self) -> Any:
        """The file's description by the Corpora schema, if it has one that is whole; cellxgene's page needs none."""
        try:
            return super().get_corpora_props()
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"Ignoring the Corpora description: {error}", stacklevel=1)
            return None

    def compute_diffexp_ttest(self, maskA: Any, maskB: Any, top_n: int, lfc_cutoff: float) -> Any:  # noqa: N803 - cellxgene's names
        """Compare two sets of cells, when it is this request's turn."""
        for mask, which in ((maskA, "first"), (maskB, "second")):
            if not np.any(mask):
                raise ValueError(f"The {which} set holds no cells. Select some and try again.")
        # argpartition, which cellxgene uses next, fails when as many genes are asked for as there are.
        top_n = min(top_n, self.gene_count - 1)
        with self._turns.one("Differential expression"):
            return super().compute_diffexp_ttest(maskA, maskB, top_n, lfc_cutoff)

    def _load_data(self, data_locator: Any) -> None:
        try:
            with reading.Watched(self._path, self._report) as file:
                self.data = anndata.read_h5ad(file)
        except (*reading.ERRORS, IORegistryError) as error:
            raise reading.open_problem(self._path, error) from error
        self._check_content()

    def _check_content(self) -> None:
        if self.data.X is None:
            raise NotViewable(self._name, detail="it has no matrix X")
        if not self.data.n_obs or not self.data.n_vars:
            raise NotViewable(self._name, detail=f"it holds {self.data.n_obs} cells and {self.data.n_vars} genes")
        for axis, columns in (("obs", self.data.obs.columns), ("var", self.data.var.columns)):
            name = getattr(self.server_config, f"single_dataset__{axis}_names")
            if name is not None and name not in columns:
                raise BadOptions(self._name, detail=f"{axis}_names is {name!r}, but {axis} has {_listed(columns)}")

    def _embedding_problem(self) -> Problem:
        """Why there is nothing to draw: nothing in the file, or nothing of what the options name."""
        wanted, self.dataset_config.embeddings__names = self.dataset_config.embeddings__names, []
        try:
            known = self.get_embedding_names() if wanted else []
        except PrepareError:
            known = []
        if not known:
            return NoEmbedding(self._name)
        return BadOptions(self._name, detail=f"embeddings is {_listed(wanted)}, but the file has {_listed(known)}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn cellxgene's and Python's ways to refuse a dataset into problems."""
        try:
            yield
        except MemoryError as error:
            raise reading.open_problem(self._path, error) from error
        except PrepareError as error:
            raise self._embedding_problem() from error
        except (CellxgeneException, LookupError, TypeError, ValueError, AttributeError) as error:
            raise NotViewable(self._name, detail=str(error.args[0] if error.args else error).rstrip(".")) from error


def _listed(names: Any, most: int = 12) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
