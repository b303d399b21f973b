"""Readers of the labels and gene sets made in the viewer: `cxg_proxy.labels`, `gene_sets` and `annotate`."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxg_proxy import annotations
from cxg_proxy.annotations.alignment import CATEGORIES, Fitted, fit, gene_set_columns, is_gene_sets, ordered
from cxg_proxy.annotations.tables import GeneSet, LabelTable, Malformed, read_gene_sets, read_labels

if TYPE_CHECKING:
    import anndata
    import pandas as pd

HOME = "~/cellxgene"
GENE_SETS = "gene_sets"  # the key in uns

_SHOWN = 5
_Path = str | os.PathLike[str]
_Sets = Mapping[str, GeneSet]


class NotSaved(LookupError):
    """Nothing was saved for this dataset, or it cannot be told which of several is meant."""


def labels(path: _Path, *, home: _Path = HOME) -> "pd.DataFrame":
    """The labels that you made in the viewer for the dataset at `path`.

    Parameters
    ----------
    path
        The `.h5ad` file. It need not exist any more.
    home
        The folder in which the viewer keeps labels; your administrator may have set another.

    Returns
    -------
    DataFrame of shape (cells, categories): the index holds the cells' names, in the dataset's order; each column is
    categorical, with "unassigned" as the last category where a cell has no label.

    Raises
    ------
    NotSaved
        Nothing was saved for this dataset (a `LookupError`).
    ValueError
        The file of labels was edited into something that cannot be read.
    OSError
        The folder cannot be read.

    Examples
    --------
    >>> labels = cxg_proxy.labels("data/pbmc.h5ad")  # doctest: +SKIP
    >>> labels["cell type"].value_counts()  # doctest: +SKIP
    """
    import pandas as pd  # noqa: PLC0415 - `import cxg_proxy` must stay light

    table = _read(_of_file(path, home), annotations.LABELS, path)
    index = pd.Index(table.cells, dtype=object, name=table.index or None)
    columns = {name: _categorical(column) for name, column in table.columns.items()}
    return pd.DataFrame(columns, index=index)


def gene_sets(path: _Path, *, home: _Path = HOME) -> dict[str, list[str]]:
    """The gene sets that you made in the viewer for the dataset at `path`: the genes' names by the set's name.

    Parameters and errors are those of `labels`.
    """
    sets = _read(_of_file(path, home), annotations.GENE_SETS, path)
    return {each.name: [symbol for symbol, _ in each.genes] for each in sets.values()}


def annotate(adata: "anndata.AnnData", path: _Path | None = None, *, home: _Path = HOME) -> "anndata.AnnData":
    """Add the labels and gene sets that you made in the viewer to an AnnData object.

    Each category becomes a categorical column of `obs`, matched by the cells' names; a cell that the labels do not
    know is "unassigned". The gene sets become the table `uns["gene_sets"]` (a DataFrame with a row per gene and the
    columns gene_set_name, gene_set_description, gene_symbol, gene_description). Call it again for newer labels.

    Parameters
    ----------
    adata
        The dataset, or some of its cells.
    path
        The file that was labelled. Without it the labels are recognised by the cells' names.
    home
        The folder in which the viewer keeps labels; your administrator may have set another.

    Returns
    -------
    `adata` itself, with the labels; of a view, a copy.

    Raises
    ------
    NotSaved
        No labels were saved for these cells, or different ones for several datasets with these cells that are still
        there (a `LookupError`).
    ValueError
        No cell of `adata` is in the labels; `obs` has a column of its own that is named like a category; or a file
        was edited into something that cannot be read.

    Warns
    -----
    UserWarning
        Some cells of `adata` are not in the labels.

    Examples
    --------
    >>> adata = cxg_proxy.annotate(adata)  # doctest: +SKIP
    """
    where = _of_cells(adata, path, home)
    table, sets = _saved(where)
    added = _added_before(adata, table, sets)
    fitted = _fitted(adata, table, where)
    adata = adata.copy() if adata.is_view else adata
    _add(adata, fitted.columns, added, sets)
    return adata


def _saved(where: Path) -> tuple[LabelTable, _Sets | None]:
    """Read the saved labels and gene sets, either of which may be missing."""
    return _parsed(where, annotations.LABELS) or LabelTable(), _parsed(where, annotations.GENE_SETS)


def _added_before(adata: "anndata.AnnData", table: LabelTable, sets: _Sets | None) -> list[str]:
    """Return the columns that an earlier call added; raises ValueError if anything else would be replaced."""
    added = [str(name) for name in adata.uns.get(CATEGORIES, ())]
    clashing = [name for name in table.columns if name in adata.obs.columns and name not in added]
    if clashing:
        raise ValueError(
            f"obs has a column {clashing[0]!r} already that did not come from here; rename one of them "
            f"(`adata.obs.rename(columns={{{clashing[0]!r}: …}})`), then try again."
        )
    existing = adata.uns.get(GENE_SETS)
    if sets is not None and existing is not None and not is_gene_sets(getattr(existing, "columns", ())):
        raise ValueError(f"This AnnData has a uns[{GENE_SETS!r}] of its own; rename it, then try again.")
    return added


def _fitted(adata: "anndata.AnnData", table: LabelTable, where: Path) -> Fitted:
    """Return the labels of these cells; raises ValueError if no cell has labels, and warns if some cells have none."""
    fitted = fit(table, _names(adata, table))
    if table.cells and not fitted.matched:
        raise ValueError(
            f"No cell of this AnnData is in the labels of {_about(where)}: they name cells like {table.cells[0]!r}, "
            f"it has cells like {adata.obs_names[0] if adata.n_obs else ''!r}."
        )
    if table.cells and fitted.missing:
        warnings.warn(
            f"{fitted.missing} of {fitted.cells} cells are not in the labels of {_about(where)}: they are unassigned.",
            UserWarning,
            stacklevel=3,  # the caller of `annotate`
        )
    return fitted


def _add(adata: "anndata.AnnData", columns: Mapping[str, Sequence[str]], added: list[str], sets: _Sets | None) -> None:
    import pandas as pd  # noqa: PLC0415 - `import cxg_proxy` must stay light

    for name, column in columns.items():
        adata.obs[name] = _categorical(column)
    if columns or added:
        adata.uns[CATEGORIES] = sorted({*added, *columns})
    if sets is not None:
        adata.uns[GENE_SETS] = pd.DataFrame(gene_set_columns(sets), dtype=object)


def _names(adata: "anndata.AnnData", table: LabelTable) -> list[str]:
    """Return the names that the labels use for the cells: cellxgene can be set to use a column instead of the index."""
    if table.index in adata.obs.columns:
        others = [str(name) for name in adata.obs[table.index]]
        if not set(adata.obs_names) & set(table.cells):
            return others
    return [str(name) for name in adata.obs_names]


def _categorical(column: Iterable[str]) -> Any:
    import pandas as pd  # noqa: PLC0415 - `import cxg_proxy` must stay light

    column = list(column)
    return pd.Categorical(column, categories=pd.Index(ordered(column), dtype=object))


# --- which labels --------------------------------------------------------------------------------------------------


def _of_file(path: _Path, home: _Path) -> Path:
    return annotations.directory(Path(home).expanduser(), Path(path).expanduser())


def _of_cells(adata: "anndata.AnnData", path: _Path | None, home: _Path) -> Path:
    path = path or adata.filename
    if path is not None:
        where = _of_file(path, home)
        if annotations.saved(where) is None:
            raise _nothing(path, where)
        return where
    place = Path(home).expanduser()
    names = [str(name) for name in adata.obs_names]
    folders = _latest(
        folder for folder, _ in annotations.same_cells(place, annotations.identifiers_digest(names), excluding=Path())
    )
    folders = folders or _latest(_with_cells(place, set(names)))
    if not folders:
        raise NotSaved(
            f"No labels for these cells are kept in {place}. If the cells were renamed, or the labels are elsewhere, "
            "say so with `path=` (the file that was labelled) or `home=`."
        )
    folders = _likely(folders)
    if len(folders) > 1:
        some = "; ".join(_about(folder) for folder in folders[:_SHOWN])
        raise NotSaved(f"Labels were saved for {len(folders)} datasets with these cells: {some}. Choose with `path=`.")
    return folders[0]


def _likely(folders: list[Path]) -> list[Path]:
    """Keep the folders whose dataset still exists, or all if none does, and one of those with the same content."""
    existing = [folder for folder in folders if _is_of_a_file(folder)] or folders
    contents = {
        tuple(annotations.read(each, name) for name in (annotations.LABELS, annotations.GENE_SETS)): each
        for each in existing[::-1]
    }
    return list(contents.values())[::-1]


def _is_of_a_file(folder: Path) -> bool:
    """Whether the folder belongs to a dataset that exists.

    A folder that was set apart does not: its labels are for other cells than those in the file at that path now.
    """
    record = annotations.read_record(folder)
    return bool(
        record and os.path.exists(record.path) and annotations.named(folder.parent, record.path).name == folder.name
    )


def _latest(folders: Iterable[Path]) -> list[Path]:
    """Keep the folder saved last for each file: labels of other cells at the same path are in folders of their own."""
    ordered = sorted(folders, key=lambda folder: annotations.saved(folder) or 0)
    return list({_about(folder): folder for folder in ordered}.values())


def _with_cells(home: Path, names: set[str]) -> Iterator[Path]:
    """Yield the folders whose labels name all of these cells, for a dataset that was filtered since."""
    for folder in sorted(home.iterdir()) if home.is_dir() and names else ():
        try:
            if names <= set(read_labels(annotations.read(folder, annotations.LABELS) or b"").cells):
                yield folder
        except (OSError, Malformed):
            continue


def _read(where: Path, name: str, path: _Path) -> Any:
    parsed = _parsed(where, name)
    if parsed is None:
        raise _nothing(path, where)
    return parsed


def _parsed(where: Path, name: str) -> Any:
    """Read a file of labels or gene sets, or return None if there is none."""
    content = annotations.read(where, name)
    if content is None:
        return None
    try:
        return read_labels(content) if name == annotations.LABELS else read_gene_sets(content)
    except Malformed as error:
        raise ValueError(f"{where / name} cannot be read: {error}") from error


def _nothing(path: _Path, where: Path) -> NotSaved:
    hint = "" if annotations.saved(where) is None else " of this kind"
    return NotSaved(
        f"Nothing{hint} was saved for {os.fspath(path)}: it would be in {where}. If the file was moved since, open it "
        "in the viewer and take its labels over, or name its old path."
    )


def _about(where: Path) -> str:
    record = annotations.read_record(where)
    return record.path if record else str(where)
