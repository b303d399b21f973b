"""cellxgene's data adaptor on a matrix by columns, perhaps still in preparation, with errors in the user's terms."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from server.common.colors import convert_anndata_category_colors_to_cxg_category_colors as converted_colors
from server.common.constants import Axis, XApproximateDistribution
from server.common.errors import CellxgeneException, ColorFormatException, ExceedsLimitError, PrepareError
from server.common.fbs.matrix import encode_matrix_fbs
from server.data_anndata.anndata_adaptor import AnndataAdaptor

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import BadOptions, DamagedFile, NoEmbedding, NotViewable, Problem
from cxg_proxy.viewer.compute import diffexp
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.dataset.metadata import Metadata
from cxg_proxy.viewer.progress import Cancelled
from cxg_proxy.viewer.source import h5ad
from cxg_proxy.viewer.store.matrix import Damaged, Matrix

from . import page_headers
from .admission import Admission

TOP_N_MAX = 1000
_COLUMNS_BYTES = 512 * 2**20  # of genes in one reply; cellxgene's page requests one at a time


class Adaptor(AnndataAdaptor):  # type: ignore[misc]  # cellxgene has no types
    """One dataset, with the interface that cellxgene's request handlers expect."""

    def __init__(self, locator: Any, config: Any, rest: Metadata, expression: Expression, admission: Admission):
        self._path: str = locator.path
        self._name = display_name(self._path)
        self._rest, self._expression = rest, expression
        self._admission = admission
        self._index: pd.Index | None = None  # of obs in the file
        self._unread = ""  # the column of obs for the cell names, until they are read
        self._lock = threading.Lock()
        with self._explained():
            super().__init__(locator, config)
        # cellxgene warns from half a billion values on, which it would make dense; here they take part of a second.
        self.parameters.pop("diffexp-may-be-slow", None)

    def get_title(self) -> str:
        """Return the file's name without its ending, printable."""
        return self._name.removesuffix(".h5ad")

    @property
    def original_obs_index(self) -> Any:
        """The names of the cells in the file, read when first needed."""
        if self._rest.names is None:
            return self._index
        try:
            return self._rest.names.index()
        except h5ad.ERRORS as error:
            raise h5ad.open_problem(self._path, error) from error

    @original_obs_index.setter
    def original_obs_index(self, index: Any) -> None:
        self._index = index

    def annotation_to_fbs_matrix(self, axis: Any, fields: Any = None, labels: Any = None) -> Any:
        """Return the columns in the format of cellxgene's page; labels are joined by the names of the cells."""
        joined = labels is not None and not labels.empty
        if axis == Axis.OBS and (joined or not fields or self._unread in fields):
            self._name_cells()
        return super().annotation_to_fbs_matrix(axis, fields, labels)

    def query_obs_array(self, term_name: str) -> Any:
        """Return a column of obs, also one named like a method, for which cellxgene would return that method."""
        if term_name == self._unread:
            self._name_cells()
        return self.data.obs[term_name]

    def query_var_array(self, term_name: str) -> Any:
        """Return a column of var, as `query_obs_array` does for obs."""
        return self.data.var[term_name]

    def get_colors(self) -> dict[str, Any]:
        """Return the usable colours of the file, warning of others.

        cellxgene refuses all of them, and its page fails, if the colours of one category are unusable.
        """
        colors: dict[str, Any] = {}
        for key, value in self.data.uns.items():
            try:
                colors.update(converted_colors(SimpleNamespace(obs=self.data.obs, uns={key: value})))
            except (ColorFormatException, AttributeError, TypeError) as error:
                warnings.warn(f"Ignoring uns[{key!r}]: {error}", stacklevel=1)
        return colors

    def get_corpora_props(self) -> Any:
        """Return the file's description by the Corpora schema, or None: cellxgene's page does not need it.

        A description that is incomplete is ignored with a warning.
        """
        try:
            return super().get_corpora_props()
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"Ignoring the Corpora description: {error}", stacklevel=1)
            return None

    def get_X_array(self, obs_mask: Any = None, var_mask: Any = None) -> Any:  # noqa: N802 - cellxgene's name
        """Return some genes in all cells, dense: cells x genes, in the matrix's dtype.

        Raises ExceedsLimitError for more genes than 512 MiB hold, DamagedFile for a damaged matrix, and ValueError for
        a selection of cells, which cellxgene never makes.
        """
        if obs_mask is not None:
            raise ValueError("Only whole genes can be asked for.")
        genes = np.arange(self.gene_count) if var_mask is None else np.flatnonzero(var_mask)
        most = _COLUMNS_BYTES // (self.cell_count * self._rest.dtype.itemsize)
        if len(genes) > most:
            raise ExceedsLimitError(f"{len(genes):,} genes are too many for one request; the limit is {most:,}.")
        with self._sound():
            return self._matrix().columns(genes)

    def summarize_var(self, method: Any, filter: Any, query_hash: str) -> Any:  # noqa: A002 - cellxgene's name
        """Return each cell's mean of some genes, in the format of cellxgene's page."""
        cells, genes = self._filter_to_mask(filter)
        if method != "mean" or cells is not None or genes is None or not np.any(genes):
            return super().summarize_var(method, filter, query_hash)  # cellxgene refuses these, or returns zeros
        with self._sound():
            mean = self._matrix().mean(np.flatnonzero(genes))
        return encode_matrix_fbs(mean, col_idx=pd.Index([query_hash]), row_idx=None)

    def compute_diffexp_ttest(self, maskA: Any, maskB: Any, top_n: int, lfc_cutoff: float) -> Any:  # noqa: N803 - cellxgene's names
        """Compare two sets of cells, once this request may run (see `diffexp.compare`).

        Raises ValueError for an empty set, Busy if too many requests wait, Cancelled if the client no longer waits, and
        DamagedFile for a damaged matrix.
        """
        for mask, name in ((maskA, "first"), (maskB, "second")):
            if not np.any(mask):
                raise ValueError(f"The {name} set holds no cells. Select some and try again.")
        cancelled = page_headers.gone()
        with self._admission.queued("Differential expression"), self._sound():
            matrix, distribution = self._expression.matrix(cancelled), self._distribution(cancelled)
            with self._admission.running(cancelled):
                return diffexp.compare(matrix, distribution, maskA, maskB, top_n, lfc_cutoff, cancelled=cancelled)

    def get_X_approximate_distribution(self) -> Any:  # noqa: N802 - cellxgene's name
        """Return the distribution of the values: the configured one, else the one that their range suggests."""
        return XApproximateDistribution(self._distribution(page_headers.gone()))

    def _distribution(self, cancelled: Callable[[], bool]) -> str:
        configured = self.dataset_config.X_approximate_distribution
        return self._expression.distribution(cancelled) if configured == "auto" else str(configured)

    def _matrix(self) -> Matrix:
        """Return the matrix, for which only a limited number of requests may wait; raises Busy for more."""
        try:
            return self._expression.matrix(
                lambda: True
            )  # as if no client waited: returns the matrix if it is ready, else raises Cancelled
        except Cancelled:
            with self._admission.queued("Gene expression"):
                return self._expression.matrix(page_headers.gone())

    @contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except Damaged as error:
            raise DamagedFile(self._name, detail=f"its matrix cannot be used: {error}") from error

    def _load_data(self, data_locator: Any) -> None:
        self.data = self._rest.data
        self._check_content()

    def _validate_and_initialize(self) -> None:
        """Call cellxgene's method with a 1 x 1 matrix of the same dtype, as the real one may not be ready.

        cellxgene reads the dtype of the matrix, and its distribution too unless the data is "backed".
        """
        whole = self.data
        parts = {name: getattr(whole, name) for name in ("obs", "var", "obsm", "obsm_keys", "n_obs", "shape")}
        self.data = SimpleNamespace(X=np.zeros((1, 1), self._rest.dtype), isbacked=True, **parts)
        try:
            super()._validate_and_initialize()
        finally:
            self.data = whole

    def _alias_annotation_names(self) -> None:
        """Call cellxgene's method, which copies the index of obs to a column; fill it with 0 until names are read."""
        super()._alias_annotation_names()
        if self._rest.names is not None and self.server_config.single_dataset__obs_names is None:
            self._unread = self.parameters["obs_names"]
            self.data.obs[self._unread] = np.zeros(len(self.data.obs), np.int8)

    def _create_schema(self) -> None:
        super()._create_schema()
        for column in self.schema["annotations"]["obs"]["columns"]:
            if column["name"] == self._unread:
                column["type"] = "string"

    def _name_cells(self) -> None:
        with self._lock:
            if self._unread:
                # The table is replaced, since another thread may be reading it.
                self.data.obs = self.data.obs.assign(**{self._unread: self.original_obs_index.to_numpy()})
                self._unread = ""

    def _check_content(self) -> None:
        cells, genes = self._rest.shape
        if not cells or not genes:
            raise NotViewable(self._name, detail=f"it holds {cells} cells and {genes} genes")
        if self._rest.dtype.kind not in "fiu":
            raise NotViewable(self._name, detail=f"its matrix holds {self._rest.dtype}, not numbers")
        for axis, table in (("obs", self.data.obs), ("var", self.data.var)):
            option = f"single_dataset__{axis}_names"
            name = getattr(self.server_config, option)
            if name is not None and name not in table.columns:
                if name != table.index.name:
                    detail = f"{axis}_names is {name!r}, but {axis} has {_listed(table.columns)}"
                    raise BadOptions(self._name, detail=detail)
                setattr(self.server_config, option, None)  # they have this name already

    def _embedding_problem(self) -> Problem:
        """Return why no embedding can be drawn: the file has none, or none that the options name."""
        wanted, self.dataset_config.embeddings__names = self.dataset_config.embeddings__names, []
        try:
            names = self.get_embedding_names() if wanted else []
        except PrepareError:
            names = []
        if not names:
            return NoEmbedding(self._name)
        return BadOptions(self._name, detail=f"embeddings is {_listed(wanted)}, but the file has {_listed(names)}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the errors with which cellxgene and Python refuse a dataset as Problems."""
        try:
            yield
        except MemoryError as error:
            raise h5ad.open_problem(self._path, error) from error
        except PrepareError as error:
            raise self._embedding_problem() from error
        except (CellxgeneException, LookupError, TypeError, ValueError, AttributeError) as error:
            raise NotViewable(self._name, detail=str(error.args[0] if error.args else error).rstrip(".")) from error


def _listed(names: Any, most: int = 12) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more
