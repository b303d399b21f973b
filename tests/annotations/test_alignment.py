"""Labels and gene sets beside a dataset: which cells they name, in which order labels stand, and what a table holds."""

from __future__ import annotations

import pytest

from cxg_proxy.annotations import alignment
from cxg_proxy.annotations.alignment import Checked, CheckedColumn
from cxg_proxy.annotations.tables import GENE_SETS_HEADER, GeneSet, LabelTable
from cxg_proxy.errors import DamagedFile


def test_cells_that_a_table_does_not_name_are_unassigned_and_counted() -> None:
    table = LabelTable("index", ("b", "elsewhere", "a"), {"type": ("B", "x", "A")})
    found = alignment.fit(table, ["a", "b", "c"])
    assert found.columns == {"type": ("A", "B", "unassigned")}
    assert (found.matched, found.missing, found.cells) == (2, 1, 3)


@pytest.mark.parametrize(
    "labels",
    [
        ["T 2", "T 10", "unassigned"],
        ["a", "unassigned", "zz"],
        ["T 9", "T 010", "T 11"],
        ["2", "10", "1" + "0" * 5000, "a"],
        ["a1b2", "a1b10", "a2b1"],
        ["B", "b", "C", "c"],
        ["", "0", "1", "x"],
    ],
)
def test_labels_stand_as_people_count_and_unassigned_at_the_end(labels: list[str]) -> None:
    expected = sorted(labels, key="unassigned".__eq__)
    assert alignment.ordered([*labels[::-1], *labels]) == expected


def test_a_table_of_gene_sets_has_a_row_for_each_gene_and_one_for_an_empty_set() -> None:
    sets = {"s": GeneSet("s", "why", (("CD3E", "x"), ("CD4", ""))), "none": GeneSet("none", "later")}
    columns = alignment.gene_set_columns(sets)
    assert list(zip(*columns.values(), strict=True)) == [
        ("s", "why", "CD3E", "x"),
        ("s", "why", "CD4", ""),
        ("none", "later", "", ""),
    ]
    for made in (columns, alignment.gene_set_columns({})):
        assert tuple(made) == GENE_SETS_HEADER
        assert alignment.is_gene_sets(made)
    assert not alignment.is_gene_sets(GENE_SETS_HEADER[::-1])
    assert not alignment.is_gene_sets((*GENE_SETS_HEADER, "more"))


def test_what_a_check_has_found_comes_back_from_its_process_and_so_does_its_problem() -> None:
    numbers = {"matched": 1, "unmatched": 2, "missing": 3, "cells": 4}
    column = {"name": "type", "labels": 5, "new": True, "changed": 6}
    found = Checked.from_json({"problem": None, **numbers, "unmatched_names": ["x"], "columns": [column]})
    assert found == Checked(**numbers, unmatched_names=["x"], columns=[CheckedColumn("type", 5, new=True, changed=6)])
    with pytest.raises(DamagedFile, match=r"a\.h5ad"):
        Checked.from_json({"problem": DamagedFile("a.h5ad").to_json()})
