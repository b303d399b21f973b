"""The labels and gene sets of one user, as cellxgene's annotations interface: two fixed files for every browser.

`cxg_proxy.annotations` reads and writes the files.
"""

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from server import __version__ as cellxgene_version
from server.common.annotations.annotations import Annotations
from server.common.errors import AnnotationsError, DisabledFeatureError, ObsoleteRequest

from cxg_proxy import annotations
from cxg_proxy.annotations.merge import SeenState
from cxg_proxy.annotations.tables import (
    GeneSet,
    LabelTable,
    aligned,
    gene_sets_csv,
    labels_csv,
    read_gene_sets,
    read_labels,
    without_comments,
)
from cxg_proxy.errors import LabelsNotReadable
from cxg_proxy.viewer.source import cell_names

from . import page_headers
from .page_headers import Fit

_TABS = 1000  # pages whose last save of gene sets is remembered


class _Read(NamedTuple):
    """A parsed file: what cellxgene receives, what its page then knows, and how labels fit the dataset."""

    shown: Any
    seen: SeenState
    fit: Fit | None = None
    hidden: tuple[str, ...] = ()  # categories that are now columns of the dataset


class Table(NamedTuple):
    """A table of labels, and its columns as pandas read them; empty if pandas could not read the file."""

    texts: LabelTable
    columns: dict[str, pd.Categorical]


class CellxgeneAnnotations(Annotations):  # type: ignore[misc]  # cellxgene has no types
    """One user's labels and gene sets for one dataset, in the folder `where`, whatever the cookie or collection name.

    Labels that are shown but read-only look like the dataset's own categories to cellxgene's page.
    """

    def __init__(
        self,
        where: Path,
        dataset: str,
        *,
        shown: bool,
        read_only: bool,
        gene_sets_read_only: bool,
        history_limit: int = annotations.LIMIT,
    ):
        # cellxgene checks "user-annotations" before it reads labels and before it saves them.
        super().__init__({"user-annotations": shown, "genesets-save": not gene_sets_read_only})
        self.where = where
        self.writable = shown and not read_only
        self._dataset, self._history_limit = dataset, history_limit
        self._about: annotations.DatasetRecord | None = None
        self._cells: tuple[str, ...] | None = None
        self._lock = threading.RLock()
        self._labels = _Remembered(where, annotations.LABELS)
        self._gene_sets = _Remembered(where, annotations.GENE_SETS)
        self._tids: OrderedDict[str, int] = OrderedDict()  # the number of each page's last save of gene sets

    def is_safe_collection_name(self, name: str | None) -> bool:
        """Accept any name, since cellxgene's page sends one, but it is not used."""
        return True

    def set_collection(self, name: str) -> None:
        """Do nothing: there is one collection."""

    def version(self) -> str:
        """Return a text that changes whenever the labels do, for ETags."""
        return str(annotations.version(self.where, annotations.LABELS))

    def get_schema(self, data_adaptor: Any) -> list[dict[str, Any]]:
        """Return the schema of the columns of labels, which cellxgene's page lets the user edit only if writable."""
        return [{**column, "writable": self.writable} for column in super().get_schema(data_adaptor)]

    def read_labels(self, data_adaptor: Any) -> pd.DataFrame:
        """Return the labels that are on disk now, one row for each cell of the dataset.

        Raises LabelsNotReadable, or DisabledFeatureError if labels are not shown.
        """
        self.check_user_annotations_enabled()
        with self._lock:
            read = self._labels.get(lambda content: self._parse_labels(content, data_adaptor))
        page_headers.read(read.seen, read.fit, read.hidden)
        return read.shown

    def write_labels(self, df: pd.DataFrame, data_adaptor: Any) -> None:
        """Save the labels, merged with what others have saved since the page read them.

        Raises DisabledFeatureError if they are read-only.
        """
        if not self.writable:
            raise DisabledFeatureError("These labels are read-only.")
        columns = {str(name): texts_of(df[name]) for name in df.columns}
        text = self._header("Annotations")
        if not df.empty:
            text += labels_csv(LabelTable(str(df.index.name or "index"), self._names(data_adaptor), columns))
        with self._lock:
            outcome = self._write(annotations.LABELS, text, data_adaptor)
        unseen = data_adaptor.get_obs_columns()
        kept_too = tuple(name for name in outcome.kept if name not in unseen)
        page_headers.saved(SeenState.of(columns, outcome.whole), replace(outcome, kept=kept_too))

    def read_gene_sets(self, data_adaptor: Any, context: Any = None) -> tuple[dict[str, Any], int]:
        """Return the gene sets that are on disk now, and the number (tid) of the page's last save, 0 if none.

        Raises LabelsNotReadable.
        """
        with self._lock:
            read = self._gene_sets.get(lambda content: self._parse_gene_sets(content, data_adaptor))
            page_headers.read(read.seen)
            return read.shown, self._tids.get(page_headers.tab(), 0)

    def write_gene_sets(self, gs: Any, tid: Any, data_adaptor: Any) -> None:
        """Save the gene sets, merged with what others have saved since the page read them.

        Raises ObsoleteRequest if a save of the same page with this number or a later one has arrived before, ValueError
        for an invalid number, and DisabledFeatureError if gene sets are read-only.
        """
        self.check_gene_sets_save_enabled()
        if type(tid) is not int or tid < 0:
            raise ValueError("tid must be a whole number, 0 or more.")
        checked = data_adaptor.check_new_gene_sets(gs)
        sets = {each.name: each for each in map(_set, checked.values() if isinstance(checked, dict) else checked)}
        with self._lock:
            tab = page_headers.tab()
            if tid <= self._tids.get(tab, 0):
                raise ObsoleteRequest("These gene sets are older than the saved ones. Reload the page.")
            text = self._header("Gene sets") + gene_sets_csv(sets.values())
            outcome = self._write(annotations.GENE_SETS, text, data_adaptor)
            self._tids[tab] = tid  # only now, since a save that failed may be tried again
            self._tids.move_to_end(tab)
            if len(self._tids) > _TABS:
                self._tids.popitem(last=False)
        page_headers.saved(SeenState.of(sets, outcome.whole), outcome)

    def _write(self, name: str, text: str, data_adaptor: Any) -> annotations.Outcome:
        return annotations.write(
            self.where,
            name,
            text.encode(),
            seen=page_headers.seen_state(),
            cells=lambda: self._names(data_adaptor),
            record=lambda: self._described(data_adaptor),
            history_limit=self._history_limit,
        )

    def _described(self, data_adaptor: Any) -> annotations.DatasetRecord:
        """Return the record of the dataset as it was loaded, since the file may have changed since."""
        if self._about is None:
            path, cells = os.path.realpath(self._dataset), data_adaptor.original_obs_index.astype(str)
            digest = annotations.identifiers_digest(cells)
            self._about = annotations.DatasetRecord(annotations.display_name(self._dataset), path, len(cells), digest)
        return self._about

    def _names(self, data_adaptor: Any) -> tuple[str, ...]:
        """Return the names of the cells that the viewer uses."""
        if self._cells is None:
            self._cells = tuple(pd.Index(data_adaptor.get_obs_index()).astype(str))
        return self._cells

    def update_parameters(self, parameters: dict[str, Any], data_adaptor: Any) -> None:
        """Set what cellxgene's page may edit; with a fixed, named collection it does not ask the user for a name."""
        parameters.update(
            {
                "annotations": self.writable,
                "annotations_genesets_readonly": not self.gene_sets_save_enabled(),
                "annotations_genesets_name_is_read_only": True,
                "user_annotation_collection_name_enabled": False,
                "annotations-data-collection-is-read-only": True,
                "annotations-data-collection-name": "labels",
                "annotations-user-data-idhash": "",
            }
        )

    def _header(self, what: str) -> str:
        now, dataset = (
            datetime.now().astimezone().isoformat(timespec="seconds"),
            annotations.display_name(self._dataset),
        )
        return f"# {what} generated on {now} using cellxgene version {cellxgene_version}\n# Dataset: {dataset}\n"

    def _parse_labels(self, content: bytes, data_adaptor: Any) -> _Read:
        with self._explained(annotations.LABELS):
            table = read_table(content)
            table, hidden = without_columns(table, data_adaptor.get_obs_columns(), self._dataset)
            digest = (
                "" if hidden else annotations.digest(content)
            )  # a page that does not receive every column does not know the whole file
            read = _fitted(table, digest, lambda: self._names(data_adaptor), data_adaptor)
            return read._replace(hidden=hidden)

    def _parse_gene_sets(self, content: bytes, data_adaptor: Any) -> _Read:
        with self._explained(annotations.GENE_SETS):
            sets = read_gene_sets(content)
            shown = dict(data_adaptor.check_new_gene_sets({name: _plain(each) for name, each in sets.items()}))
            return _Read(shown, SeenState.of(sets, annotations.digest(content)))

    @contextmanager
    def _explained(self, name: str) -> Any:
        try:
            yield
        except (ValueError, KeyError, OSError, AnnotationsError) as error:
            detail = str(error.args[-1] if error.args else error).strip().rstrip(".")
            raise LabelsNotReadable(str(self.where / name), detail=detail) from error


def _fitted(table: Table, digest: str, names: Callable[[], tuple[str, ...]], data_adaptor: Any) -> _Read:
    """Return the labels with one row per cell, in the dataset's order; cells without a row are unassigned."""
    texts = table.texts
    if not texts.columns:
        return _Read(pd.DataFrame(), SeenState(digest))
    cells = names()
    same = texts.cells == cells
    without = 0 if same else len(set(cells).difference(texts.cells))
    fit = Fit(len(cells), without, len(texts.cells) - (len(cells) - without))
    columns = aligned(texts, cells)
    index = pd.Index(data_adaptor.get_obs_index(), name=texts.index or None)
    read = table.columns if same else {}
    shown = {name: read[name] if name in read else _categorical(labels) for name, labels in columns.items()}
    # A page that does not receive the rows of cells missing from the dataset does not know the whole file.
    return _Read(pd.DataFrame(shown, index=index), SeenState.of(columns, "" if fit.gone else digest), fit)


def _categorical(labels: tuple[str, ...]) -> pd.Categorical:
    """Return the Categorical that pandas would make of the labels, three times as fast."""
    categories = sorted(set(labels))
    codes = map({label: code for code, label in enumerate(categories)}.__getitem__, labels)
    return pd.Categorical.from_codes(np.fromiter(codes, dtype=np.int32, count=len(labels)), categories)


def _set(plain: dict[str, Any]) -> GeneSet:
    genes = ((gene["gene_symbol"], gene.get("gene_description") or "") for gene in plain["genes"])
    return GeneSet(plain["geneset_name"], plain.get("geneset_description") or "", tuple(genes))


def _plain(each: GeneSet) -> dict[str, Any]:
    genes = [{"gene_symbol": symbol, "gene_description": record} for symbol, record in each.genes]
    return {"geneset_name": each.name, "geneset_description": each.description, "genes": genes}


class _Remembered:
    """The result of parsing a file, remembered until the file changes."""

    def __init__(self, where: Path, name: str):
        self._where, self._name = where, name
        self._version: object = self
        self._value: Any = None

    def get(self, parse: Callable[[bytes], Any]) -> Any:
        version = annotations.version(self._where, self._name)
        if version != self._version:
            self._value = parse(self._content())
            self._version = version
        return self._value

    def _content(self) -> bytes:
        try:
            return annotations.read(self._where, self._name) or b""
        except OSError as error:
            raise LabelsNotReadable(str(self._where / self._name), detail=error.strerror or str(error)) from error


def read_table(content: bytes) -> Table:
    """Parse the table in a file, with pandas where possible, which is much faster than Python; raises Malformed."""
    return _quickly(without_comments(content)) or Table(read_labels(content), {})


def _quickly(table: bytes) -> Table | None:
    if b"\r" in table or b"\0" in table:
        return None
    read = partial(pd.read_csv, keep_default_na=False, na_filter=False)
    try:
        index, *names = map(str, read(io.BytesIO(table), header=None, nrows=1, dtype=str).iloc[0])
        numbers = range(1, len(names) + 1)
        types = {0: str, **dict.fromkeys(numbers, "category")}
        rows = read(io.BytesIO(table), header=0, names=[0, *numbers], dtype=types)
    except ValueError:
        return None
    named = tuple(rows[0].to_numpy().tolist())
    # pandas fills the missing fields of a row that is too short with empty text.
    ragged = not isinstance(rows.index, pd.RangeIndex) or (names and "" in rows[len(names)].cat.categories)
    if ragged or len(set(names)) < len(names) or len(set(named)) < len(named):
        return None  # the slow parser reports what is wrong
    columns = {name: rows[number] for number, name in enumerate(names, 1)}
    texts = LabelTable(index, named, {name: texts_of(column) for name, column in columns.items()})
    return Table(texts, {name: column.array for name, column in columns.items()})


def without_columns(table: Table, dataset_columns: Collection[str], dataset: str) -> tuple[Table, tuple[str, ...]]:
    """Return the table without the categories that a user copied into the dataset, and the names of these.

    `dataset_columns` are those of the dataset's obs. Raises ValueError if one of them has a category's name but is
    not such a copy.
    """
    index, rows, columns = table.texts.index, table.texts.cells, table.texts.columns
    clashing = [name for name in columns if name in dataset_columns]
    label_columns = cell_names.label_columns(dataset) if clashing else set()
    if foreign := [name for name in clashing if name not in label_columns]:
        raise ValueError(f"the dataset itself has a category named {foreign[0]!r} now; rename or remove that column")
    shown = {name: labels for name, labels in columns.items() if name not in clashing}
    return Table(LabelTable(index, rows, shown), table.columns), tuple(clashing)


def texts_of(column: pd.Series) -> tuple[str, ...]:
    """Return the labels of a column, one for each cell."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return tuple(column.cat.categories.astype(str).to_numpy(dtype=object)[column.cat.codes.to_numpy()])
    return tuple(column.astype(str))
