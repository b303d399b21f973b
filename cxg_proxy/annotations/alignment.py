"""Alignment of saved labels and gene sets with a dataset: one label per cell, one row per gene."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxg_proxy.errors import Problem

from .tables import GENE_SETS_HEADER, UNASSIGNED, GeneSet, LabelTable, aligned

CATEGORIES = "cellxgene_categories"  # in uns: names the columns of obs that are labels from the viewer


@dataclass(frozen=True)
class Fitted:
    """Labels by category, in the order of the dataset's cells; a cell without a row is unassigned."""

    columns: dict[str, tuple[str, ...]]
    matched: int  # cells that the table names
    cells: int

    @property
    def missing(self) -> int:
        """The number of cells that the table does not name."""
        return self.cells - self.matched


def fit(table: LabelTable, cells: Sequence[str]) -> Fitted:
    """Align the table with the cells of a dataset, matching rows by the cell's name."""
    named = set(table.cells)
    return Fitted(aligned(table, tuple(cells)), sum(cell in named for cell in cells), len(cells))


def ordered(labels: Iterable[str]) -> list[str]:
    """Return each label once, in natural order: 2 before 10, and unassigned at the end."""
    return sorted(set(labels), key=lambda label: (label == UNASSIGNED, _natural(label), label))


def _natural(label: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", label.casefold())
    numbers = (part.lstrip("0") for part in parts[1::2])
    return [*_alternating(parts[0::2], numbers)]


def _alternating(texts: Sequence[str], numbers: Iterable[str]) -> Iterable[tuple[int, str]]:
    """Yield texts and numbers in turn; a number is compared by its length first, so it may be of any length."""
    yield 0, texts[0]
    for number, text in zip(numbers, texts[1:], strict=True):
        yield len(number), number
        yield 0, text


def gene_set_columns(sets: Mapping[str, GeneSet]) -> dict[str, list[str]]:
    """Return the columns of cellxgene's table of gene sets: a row for each gene, and one row for an empty set."""
    none = (("", ""),)
    rows = [(each.name, each.description, *gene) for each in sets.values() for gene in each.genes or none]
    columns = zip(*rows, strict=True) if rows else ([] for _ in GENE_SETS_HEADER)
    return {name: list(column) for name, column in zip(GENE_SETS_HEADER, columns, strict=True)}


def is_gene_sets(columns: Iterable[str]) -> bool:
    """Whether these are the columns that `gene_set_columns` makes."""
    return tuple(columns) == GENE_SETS_HEADER


@dataclass(frozen=True)
class CheckedColumn:
    """A category of an uploaded table; `changed` counts the cells whose saved label would change."""

    name: str
    labels: int
    new: bool
    changed: int


@dataclass(frozen=True)
class Checked:
    """How a table of labels fits a dataset."""

    matched: int
    unmatched: int  # rows that name no cell of the dataset
    missing: int  # cells without a row
    cells: int
    unmatched_names: Sequence[str] = ()
    columns: Sequence[CheckedColumn] = ()

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Checked:
        """Read what the child process wrote.

        Raises the problem that it found, or ValueError, KeyError or TypeError for anything else.
        """
        if isinstance(data["problem"], Mapping):
            raise Problem.from_json(dict(data["problem"]))
        columns = [
            CheckedColumn(str(each["name"]), int(each["labels"]), bool(each["new"]), int(each["changed"]))
            for each in data["columns"]
        ]
        names = [str(name) for name in data["unmatched_names"]]
        matched, unmatched, missing, cells = (int(data[key]) for key in ("matched", "unmatched", "missing", "cells"))
        return Checked(matched, unmatched, missing, cells, names, columns)
