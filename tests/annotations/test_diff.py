"""What a list says of each version: rows, columns and how many labels are others."""

from __future__ import annotations

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from cxg_proxy.annotations import diff

NAMES = st.text(min_size=1, max_size=6).filter(lambda text: text.isprintable())


def csv_of(cells: list[str], columns: dict[str, list[str]]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["index", *columns])
    rows.writerows(zip(cells, *columns.values(), strict=True))
    return text.getvalue().encode()


@given(st.data(), st.lists(NAMES, min_size=1, max_size=8, unique=True), st.booleans())
@settings(deadline=None)
def test_changes_are_counted_for_any_text_the_same_in_any_order(
    data: st.DataObject, cells: list[str], turn: bool
) -> None:
    label = st.sampled_from(["unassigned", "T cell, naive", 'a "b"', "line\nbreak", "#", "=1"])
    some = st.lists(label, min_size=len(cells), max_size=len(cells))
    old, new = {"k": data.draw(some), "gone": data.draw(some)}, {"k": data.draw(some), "m": data.draw(some)}
    expected = {
        "k": sum(map(str.__ne__, old["k"], new["k"])),
        "gone": sum(text != "unassigned" for text in old["gone"]),
        "m": sum(text != "unassigned" for text in new["m"]),
    }
    if turn:
        new = {name: texts[::-1] for name, texts in new.items()}
    after = csv_of(cells[::-1] if turn else cells, new)
    found = diff.summary(csv_of(cells, old), after, gene_sets=False)
    assert found == diff.Summary(("k", "m"), len(cells), {name: n for name, n in expected.items() if n})


@given(st.lists(st.sampled_from(["unassigned", "T, x", 'a "b"', "line\nbreak"]), min_size=3, max_size=3))
def test_the_short_way_to_count_agrees(texts: list[str]) -> None:
    cells, before = ["a", "b", "c"], ["T, x"] * 3
    found = diff.summary(csv_of(cells, {"k": before}), csv_of(cells, {"k": texts}), gene_sets=False)
    count = sum(map(str.__ne__, before, texts))
    assert found == diff.Summary(("k",), 3, {"k": count} if count else {})


def test_gene_sets_are_counted_by_their_genes() -> None:
    head = b"# Gene sets generated on Monday\ngene_set_name,gene_set_description,gene_symbol,gene_description\n"
    found = diff.summary(head + b"one,,CD3E,\ntwo,,CD4,\n", head + b"one,,CD3E,\none,,CD8A,\n", gene_sets=True)
    assert found == diff.Summary(("one",), 2, {"one": 1, "two": 1})


@given(st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_no_content_keeps_a_version_from_being_described(old: bytes, new: bytes, gene_sets: bool) -> None:
    diff.summary(old, new, gene_sets=gene_sets)
