"""Makes a copy of a dataset that holds the user's labels and gene sets too; all else in it stays as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cxg_proxy import __version__
from cxg_proxy import annotations as kept
from cxg_proxy.annotations import GENE_SETS, LABELS, display_name
from cxg_proxy.annotations.alignment import Fitted, fit
from cxg_proxy.annotations.tables import GeneSet, Malformed, read_gene_sets, read_labels
from cxg_proxy.errors import ChangedMeanwhile, LabelsNotReadable, Problem
from cxg_proxy.steps import Phase, Step
from cxg_proxy.viewer import child
from cxg_proxy.viewer.child import Order
from cxg_proxy.viewer.source import h5ad

from .output_file import Output

_Parsed = TypeVar("_Parsed")
_COPIED = 0.95  # the share of the work that is copying


def annotate(order: Order) -> int:
    """Write the copy, telling how far it is; returns the exit status."""
    say = child.channel()
    output = Output(order.output)
    child.on_leash(output.abandon)

    def tell(step: Step) -> None:
        say(step.line())

    tell(Step(Phase.STARTING, version=__version__))
    child.log_to_stderr()
    found = child.outcome(lambda: _make(order, output, tell), order.dataset)
    if isinstance(found, Problem):
        output.remove()
        tell(Step(Phase.FAILED, problem=found))
        child.leave(1)  # where HDF5 could not write, it crashes when Python ends
    tell(Step(Phase.READY, note=found))
    return 0


def _make(order: Order, output: Output, tell: Callable[[Step], None]) -> str:
    """Returns what the reader should know."""
    tell(Step(Phase.LOADING, done=0.0))
    dataset = os.path.abspath(order.dataset)
    h5ad.look(dataset)
    try:
        before = h5ad.fingerprint(dataset)
        labels = _fitted(dataset, order)
        sets = _parsed(order.labels, GENE_SETS, read_gene_sets)
        output.copy(dataset, lambda share: tell(Step(Phase.LOADING, done=_COPIED * share)))
        if h5ad.fingerprint(dataset) != before:
            raise ChangedMeanwhile(display_name(dataset))
        note = _enriched(output.path, labels, sets)
        output.finish()
    except h5ad.ERRORS as error:
        raise output.problem(error) or h5ad.open_problem(dataset, error) from error
    return note


def _enriched(path: str, labels: Fitted, sets: dict[str, GeneSet]) -> str:
    from .enrich import enrich  # noqa: PLC0415 - heavy, and the file can be copied before

    return enrich(path, labels.columns, sets)


def _fitted(dataset: str, order: Order) -> Fitted:
    """The labels, one for each cell of the dataset; raises LabelsNotReadable where the viewer would, too."""
    from cxg_proxy.viewer import options  # noqa: PLC0415 - `starting` must be out before
    from cxg_proxy.viewer.source import cell_names  # noqa: PLC0415 - `starting` must be out before

    table = _parsed(order.labels, LABELS, read_labels)
    known = cell_names.read(dataset, options.gather(dataset, order.options))
    taken = table.columns.keys() & known.own
    if taken := taken and taken - cell_names.ours(dataset):
        detail = f"the dataset itself has a category named {min(taken)!r} now; rename or remove that column"
        raise LabelsNotReadable(str(order.labels / LABELS), detail=detail)
    return fit(table, known.names)


def _parsed(where: Path, name: str, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    try:
        return parse(kept.read(where, name) or b"")
    except Malformed as error:
        raise LabelsNotReadable(str(where / name), detail=str(error)) from error
    except OSError as error:
        raise LabelsNotReadable(str(where / name), detail=error.strerror or str(error)) from error
