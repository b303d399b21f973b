"""Saving labels made in Python for the viewer: `cxg_proxy.save_labels`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxg_proxy import annotations
from cxg_proxy.annotations.tables import UNASSIGNED, LabelTable, labels_csv

from .read import HOME

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5
_Path = str | os.PathLike[str]


def save_labels(
    path: str | os.PathLike[str], labels: "pd.Series[Any] | pd.DataFrame", *, home: str | os.PathLike[str] = HOME
) -> None:
    """Save labels that you made in Python for the dataset at `path`: the viewer shows them, and you go on there.

    A category of the same name is replaced, and its earlier versions are kept; other categories stay. `labels` may be
    of some cells only, for example of one cell type: in these categories, all other cells have no label then.

    Parameters
    ----------
    path
        The `.h5ad` file.
    labels
        A Series with a name, or a DataFrame with a column for each category. The index holds the cells' names, as in
        `obs_names`; where a value is missing, the cell has no label.
    home
        The folder in which the viewer keeps labels; your administrator may have set another.

    Raises
    ------
    ValueError
        There are no cells or no categories, or two have the same name, or a category has none or a column's.
    LabelsNotSaved
        The folder cannot be written to (`cxg_proxy.errors.LabelsNotSaved`).

    Examples
    --------
    >>> cxg_proxy.save_labels("data/pbmc.h5ad", adata.obs["louvain"].rename("my types"))  # doctest: +SKIP
    """
    table = labels.to_frame(labels.name) if labels.ndim == 1 else labels
    for what, names in (("cell", list(table.index)), ("category", list(table.columns))):
        if not names or len(set(map(str, names))) < len(names) or (what == "category" and {None, ""} & set(names)):
            raise ValueError(f"The labels need names for each {what}, all different: these have {names[:_SHOWN]}.")
    where = annotations.directory(Path(home).expanduser(), Path(path).expanduser())
    columns = {str(name): tuple(map(_label, column, column.isna())) for name, column in table.items()}
    real = Path(os.path.realpath(Path(path).expanduser()))
    dataset_columns, cells = _read(real)
    if clashing := sorted(dataset_columns & columns.keys()):
        raise ValueError(f"The dataset has a column {clashing[0]!r} of its own. Give your labels another name.")
    content = labels_csv(LabelTable(str(table.index.name or "index"), tuple(map(str, table.index)), columns))
    record = annotations.read_record(where) or annotations.DatasetRecord(real.name, str(real))
    if cells:  # an earlier file at this path may have had other cells
        record = annotations.DatasetRecord(real.name, str(real), len(cells), annotations.identifiers_digest(cells))
    annotations.write(
        where, annotations.LABELS, content.encode(), seen=annotations.SeenState(some_cells=True), record=lambda: record
    )


def _label(value: Any, missing: bool) -> str:
    return UNASSIGNED if missing or value == "" else str(value)


def _read(file: Path) -> tuple[set[str], list[str]]:
    """Read the names of the dataset's obs columns, and the names of its cells, as far as possible.

    Labels may be saved before the file exists.
    """
    import h5py  # noqa: PLC0415 - `import cxg_proxy` must stay light

    try:
        with h5py.File(file, "r", locking=False) as opened:
            obs = opened["obs"]
            return (set(obs.dtype.names), []) if isinstance(obs, h5py.Dataset) else (set(obs), _names(obs))
    except (OSError, KeyError):
        return set(), []


def _names(obs: Any) -> list[str]:
    try:
        return list(obs[obs.attrs["_index"]].asstr(errors="surrogateescape")[:])
    except (OSError, KeyError, TypeError, AttributeError):  # written by another version of AnnData
        return []
