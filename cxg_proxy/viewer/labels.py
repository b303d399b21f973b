"""cellxgene's annotations interface on `cxg_proxy.annotations`: two fixed files, whichever browser asks."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from server import __version__ as cellxgene_version
from server.common.annotations.annotations import Annotations
from server.common.errors import AnnotationsError, DisabledFeatureError, ObsoleteRequest
from server.common.genesets import read_gene_sets_tidycsv
from server.common.utils.data_locator import LocalFilePath

from cxg_proxy import annotations as kept
from cxg_proxy.errors import LabelsNotReadable

UNASSIGNED = "unassigned"  # cellxgene's own word for a cell without a label


class Labels(Annotations):  # type: ignore[misc]  # cellxgene has no types
    """One user's labels and gene sets for one dataset; no cookie and no collection name decides where they are.

    Labels that are shown but read-only look like the dataset's own categories to cellxgene's page.
    """

    def __init__(self, where: Path, dataset: str, *, shown: bool, read_only: bool, gene_sets_read_only: bool):
        # "user-annotations" is asked by cellxgene before it reads labels and before it saves them.
        super().__init__({"user-annotations": shown, "genesets-save": not gene_sets_read_only})
        self.where = where
        self.writable = shown and not read_only
        self._dataset = dataset
        self._lock = threading.RLock()
        self._labels = _Remembered(where, kept.LABELS)
        self._gene_sets = _Remembered(where, kept.GENE_SETS)
        self._tid = 0

    def is_safe_collection_name(self, name: str | None) -> bool:
        """Any name will do: it is accepted for the sake of cellxgene's page, and used for nothing."""
        return True

    def set_collection(self, name: str) -> None:
        """Do nothing: there is one collection."""

    def version(self) -> str:
        """Changes whenever the labels do, for ETags."""
        return str(kept.version(self.where, kept.LABELS))

    def get_schema(self, data_adaptor: Any) -> list[dict[str, Any]]:
        """The columns of the labels, which cellxgene's page lets nobody edit unless they are writable."""
        return [{**column, "writable": self.writable} for column in super().get_schema(data_adaptor)]

    def read_labels(self, data_adaptor: Any) -> pd.DataFrame:
        """The labels as they are on disk now, one row for each cell of the dataset."""
        self.check_user_annotations_enabled()
        with self._lock:
            return self._labels.get(lambda: self._parse_labels(data_adaptor))

    def write_labels(self, df: pd.DataFrame, data_adaptor: Any) -> None:
        """Save the labels."""
        if not self.writable:
            raise DisabledFeatureError("These labels are read-only.")
        text = io.StringIO(newline="")
        text.write(self._header("Annotations"))
        if not df.empty:
            df.to_csv(text)
        with self._lock:
            kept.write(self.where, kept.LABELS, text.getvalue().encode())

    def read_gene_sets(self, data_adaptor: Any, context: Any = None) -> tuple[dict[str, Any], int]:
        """The gene sets as they are on disk now, and the number of the last save."""
        with self._lock:
            return self._gene_sets.get(lambda: self._parse_gene_sets(data_adaptor)), self._tid

    def write_gene_sets(self, gs: Any, tid: Any, data_adaptor: Any) -> None:
        """Save the gene sets, unless a later save was here already."""
        self.check_gene_sets_save_enabled()
        if type(tid) is not int or tid < 0:
            raise ValueError("tid must be a whole number, 0 or more.")
        gs = data_adaptor.check_new_gene_sets(gs)
        content = (self._header("Gene sets") + self.gene_sets_to_csv(gs)).encode()
        with self._lock:
            if tid <= self._tid:
                raise ObsoleteRequest("These gene sets are older than the saved ones. Reload the page.")
            kept.write(self.where, kept.GENE_SETS, content)
            self._tid = tid  # only now: a save that failed may be tried again

    def update_parameters(self, parameters: dict[str, Any], data_adaptor: Any) -> None:
        """Tell cellxgene's page what may be edited; a fixed, named collection keeps it from asking for a name."""
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
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return f"# {what} generated on {now} using cellxgene version {cellxgene_version}\n# Dataset: {self._dataset}\n"

    def _parse_labels(self, data_adaptor: Any) -> pd.DataFrame:
        with self._explained(kept.LABELS):
            content = kept.read(self.where, kept.LABELS) or b""
            text = _without_header(content.decode("utf-8-sig"))
            if not text.strip():
                return pd.DataFrame()
            table = pd.read_csv(io.StringIO(text), dtype=str, header=0, keep_default_na=False)
            table = table.set_index(table.columns[0])
            return _fitted(table, data_adaptor)

    def _parse_gene_sets(self, data_adaptor: Any) -> dict[str, Any]:
        if kept.version(self.where, kept.GENE_SETS) is None:
            return {}
        with self._explained(kept.GENE_SETS):
            found = read_gene_sets_tidycsv(_Located(self.where / kept.GENE_SETS))
            return dict(data_adaptor.check_new_gene_sets(found))

    @contextmanager
    def _explained(self, name: str) -> Any:
        try:
            yield
        except (ValueError, KeyError, IndexError, OSError, csv.Error, AnnotationsError) as error:
            detail = str(error.args[-1] if error.args else error).strip().rstrip(".")
            raise LabelsNotReadable(str(self.where / name), detail=detail) from error


def _without_header(text: str) -> str:
    """The table alone. Only lines above it are comments: pandas would cut every name and label at its first '#'."""
    while text.startswith("#"):
        text = text.partition("\n")[2]
    return text


def _fitted(table: pd.DataFrame, data_adaptor: Any) -> pd.DataFrame:
    """One row per cell, in the dataset's order; cells that the file does not name are unassigned."""
    if not table.index.is_unique:
        raise ValueError("a cell is named twice")
    if not table.columns.is_unique:
        raise ValueError("a category is named twice")
    taken = [name for name in table.columns if name in data_adaptor.get_obs_columns()]
    if taken:
        raise ValueError(f"the dataset itself has a category named {taken[0]!r} now; rename or remove that column")
    cells = pd.Index(data_adaptor.get_obs_index()).astype(str)
    fitted = table.reindex(cells, fill_value=UNASSIGNED)
    fitted.index = pd.Index(data_adaptor.get_obs_index(), name=table.index.name)
    return fitted.astype("category")


class _Remembered:
    """What was parsed from a file, for as long as the file stays as it was."""

    def __init__(self, where: Path, name: str):
        self._where, self._name = where, name
        self._version: object = self
        self._value: Any = None

    def get(self, parse: Callable[[], Any]) -> Any:
        version = kept.version(self._where, self._name)
        if version != self._version:
            self._value = parse()
            self._version = version
        return self._value


class _Located:
    """The one method of a cellxgene locator that its reader of gene sets calls."""

    def __init__(self, path: Path):
        self._path = path

    def local_handle(self) -> Any:
        return LocalFilePath(str(self._path))
