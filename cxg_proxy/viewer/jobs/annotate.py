"""The job that annotates a dataset: it makes a copy that also holds the user's labels and gene sets."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pandas as pd

from cxg_proxy import __version__, annotations
from cxg_proxy.annotations import GENE_SETS, LABELS, display_name
from cxg_proxy.annotations.alignment import CATEGORIES, Fitted, fit, gene_set_columns, is_gene_sets, ordered
from cxg_proxy.annotations.tables import GeneSet, Malformed, read_gene_sets, read_labels
from cxg_proxy.errors import ChangedMeanwhile, LabelsNotReadable, Problem
from cxg_proxy.steps import Phase, Step
from cxg_proxy.viewer import child
from cxg_proxy.viewer.child import JobOrder
from cxg_proxy.viewer.source import h5ad, tables
from cxg_proxy.viewer.source.elements import Unreadable, read_elem, read_h5ad, write_elem

from .output_file import Output

_Parsed = TypeVar("_Parsed")
_COPIED = 0.95  # the share of the work that is copying
GENE_SETS_KEY = "gene_sets"
_WHEN_TAKEN = "cellxgene_gene_sets"
_RESERVED = {"_index", "__categories", "", ".", ".."}


def annotate(order: JobOrder) -> int:
    """Write the copy, otherwise unchanged, reporting progress; return the exit status."""
    say = child.channel()
    output = Output(order.output)
    child.end_with_parent(output.abandon)

    def report(step: Step) -> None:
        say(step.line())

    report(Step(Phase.STARTING, version=__version__))
    child.log_to_stderr()
    outcome = child.outcome(lambda: _make(order, output, report), order.dataset)
    if isinstance(outcome, Problem):
        output.remove()
        report(Step(Phase.FAILED, problem=outcome))
        child.leave(1)  # after a failed write HDF5 would crash when Python ends
    report(Step(Phase.READY, note=outcome))
    return 0


def _make(order: JobOrder, output: Output, report: Callable[[Step], None]) -> str:
    """Make the copy, and return sentences for the user, or ""."""
    report(Step(Phase.LOADING, done=0.0))
    dataset = os.path.abspath(order.dataset)
    h5ad.look(dataset)
    try:
        before = h5ad.fingerprint(dataset)
        labels = _fitted(dataset, order)
        sets = _parsed(order.labels, GENE_SETS, read_gene_sets)
        output.copy(dataset, lambda share: report(Step(Phase.LOADING, done=_COPIED * share)))
        if h5ad.fingerprint(dataset) != before:
            raise ChangedMeanwhile(display_name(dataset))
        note = _enriched(output.path, labels, sets)
        output.finish()
    except h5ad.ERRORS as error:
        raise output.problem(error) or h5ad.open_problem(dataset, error) from error
    return note


def _enriched(path: str, labels: Fitted, sets: dict[str, GeneSet]) -> str:

    return enrich(path, labels.columns, sets)


def _fitted(dataset: str, order: JobOrder) -> Fitted:
    """Read the labels, one for each cell of the dataset; raises LabelsNotReadable where the viewer would, too."""
    from cxg_proxy.viewer import options  # noqa: PLC0415 - `starting` must be reported before
    from cxg_proxy.viewer.source import cell_names  # noqa: PLC0415 - `starting` must be reported before

    table = _parsed(order.labels, LABELS, read_labels)
    cells = cell_names.read(dataset, options.gather(dataset, order.options))
    clashing = table.columns.keys() & cells.own
    if clashing := clashing and clashing - cell_names.label_columns(dataset):
        detail = f"the dataset itself has a category named {min(clashing)!r} now; rename or remove that column"
        raise LabelsNotReadable(str(order.labels / LABELS), detail=detail)
    return fit(table, cells.names)


def _parsed(where: Path, name: str, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    try:
        return parse(annotations.read(where, name) or b"")
    except Malformed as error:
        raise LabelsNotReadable(str(where / name), detail=str(error)) from error
    except OSError as error:
        raise LabelsNotReadable(str(where / name), detail=error.strerror or str(error)) from error


def enrich(path: str, labels: Mapping[str, Sequence[str]], sets: Mapping[str, GeneSet]) -> str:
    """Add a categorical column to obs for each category, and the gene sets as a table in uns.

    Return sentences for the user about names that had to be changed, or ""; raises one of `h5ad.ERRORS`.
    """
    older = _older(path) if labels or sets else None
    notes = []
    with h5py.File(path, "r+", locking=False) as file:
        if older is not None:
            _rewrite(file, older)
        if labels:
            notes += _add_labels(file, labels)
        if sets:
            notes += _add_gene_sets(file, sets)
    return " ".join(notes)


def _older(path: str) -> dict[str, Any] | None:
    """Return what AnnData before 0.7 spread over obs, var and uns, or None for a newer file."""
    with h5py.File(path, "r", locking=False) as file:
        if not isinstance(file["obs"], h5py.Dataset):
            return None
    data = read_h5ad(path, backed="r")
    data.file.close()  # or the file could not be opened for writing
    return {"obs": data.obs, "var": data.var, "uns": dict(data.uns)}


def _rewrite(file: Any, older: dict[str, Any]) -> None:
    for key, value in older.items():
        file.pop(key, None)
        write_elem(file, key, value)


def _add_labels(file: Any, labels: Mapping[str, Sequence[str]]) -> list[str]:
    obs = file["obs"]
    if tables.text(obs.attrs.get("encoding-version", "")) != "0.2.0":  # all columns of a table must have one version
        table = read_elem(obs)
        del file["obs"]
        write_elem(file, "obs", table)
        obs = file["obs"]
    notes, columns = [], tables.columns(obs)
    label_columns, added = _label_columns(file), []
    for name, cells in labels.items():
        if name in label_columns and name in columns:  # labels from an earlier copy
            del obs[name]
            columns.remove(name)
        key = _key(name, set(obs))
        if key != name:
            notes.append(f"The category {name!r} is the column {key!r}: a file of this kind cannot hold its own name.")
        stored = [_storable(label) for label in cells]
        write_elem(obs, key, pd.Categorical(stored, categories=pd.Index(ordered(stored), dtype=object)))
        added.append(key)
    obs.attrs["column-order"] = np.array([*columns, *added], dtype=h5py.string_dtype())
    _name_categories(file, sorted({*label_columns, *added}))
    return notes


def _label_columns(file: Any) -> set[str]:
    """Return the columns that are labels already, in a copy of a copy or a file annotated in a notebook."""
    existing = file.get(f"uns/{CATEGORIES}")
    return set(map(tables.text, existing[:])) if isinstance(existing, h5py.Dataset) else set()


def _name_categories(file: Any, columns: list[str]) -> None:
    """List the columns that are labels, so that `cxg_proxy.annotate` renews them when a notebook reads the file."""
    uns = _uns(file)
    uns.pop(CATEGORIES, None)
    write_elem(uns, CATEGORIES, np.array(columns, dtype=object))


def _uns(file: Any) -> Any:
    if "uns" not in file:
        write_elem(file, "uns", {})
    if not isinstance(file["uns"], h5py.Group):
        raise Unreadable("its uns is not a group")
    return file["uns"]


def _add_gene_sets(file: Any, sets: Mapping[str, GeneSet]) -> list[str]:
    uns, key, notes = _uns(file), GENE_SETS_KEY, []
    if key in uns and not _is_gene_set_table(uns[key]):
        key = _key(_WHEN_TAKEN, {name for name in uns if not _is_gene_set_table(uns[name])})
        notes.append(f"The gene sets are in uns[{key!r}]: the dataset has a {GENE_SETS_KEY!r} of its own.")
    uns.pop(key, None)
    columns = {name: list(map(_storable, column)) for name, column in gene_set_columns(sets).items()}
    write_elem(uns, key, pd.DataFrame(columns, dtype=object))
    return notes


def _is_gene_set_table(element: Any) -> bool:
    return isinstance(element, h5py.Group) and is_gene_sets(tables.columns(element))


def _key(name: str, taken: Collection[str]) -> str:
    """Return a name like `name` that HDF5 can hold and that is not taken."""
    start = re.sub(r"[/\0]", "_", name)
    start = f"_{start}" if start in _RESERVED else start
    key, number = start, 1
    while key in taken:
        number += 1
        key = f"{start}_{number}"
    return key


def _storable(text: str) -> str:
    """Replace NUL in the text, which HDF5 takes for its end."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
