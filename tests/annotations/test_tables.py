"""cellxgene's two CSV formats, read and written with any text in them."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy.annotations import tables
from cxg_proxy.annotations.tables import GeneSet, LabelTable, Malformed

# NUL is refused by older Pythons.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)
plain = st.sampled_from(["T", "B cell", "unassigned", "", "#x", "=1+1", "ä", "\N{GRINNING FACE}"])


@st.composite
def label_tables(draw: st.DrawFn) -> LabelTable:
    text = draw(st.sampled_from([texts, plain]))
    cells = draw(st.lists(text, unique=True, max_size=6))
    names = draw(st.lists(text, unique=True, min_size=1, max_size=3))
    columns = {name: tuple(draw(text) for _ in cells) for name in names}
    return LabelTable(draw(text), tuple(cells), columns)


@given(label_tables(), st.sampled_from(["", "# a comment\n", '\ufeff# one\n#two, "\n', "\ufeff"]))
def test_labels_are_read_as_they_were_written(table: LabelTable, header: str) -> None:
    assert tables.read_labels((header + tables.labels_csv(table)).encode()) == table


@given(label_tables())
def test_the_fast_ways_give_what_the_slow_ones_give(table: LabelTable) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([[table.index, *table.columns]])
    csv.writer(text, lineterminator="\n").writerows(zip(table.cells, *table.columns.values(), strict=True))
    if not table.index.startswith("#") and "\r" not in text.getvalue():
        assert tables.labels_csv(table) == text.getvalue()
    content = tables.labels_csv(table).encode()
    fast = tables._plain_columns(content)
    assert fast is None or (fast[0], fast[1]) == tables._all_columns(content)
    if not any(letter in text.getvalue() for letter in '"\r\n#'):
        assert fast is not None


@given(label_tables())
def test_labels_are_counted_the_most_frequent_first(table: LabelTable) -> None:
    counts = tables.count_labels(tables.labels_csv(table).encode())
    for name, labels in table.columns.items():
        assert counts[name] == {label: labels.count(label) for label in labels}
        assert list(counts[name].values()) == sorted(counts[name].values(), reverse=True)


@given(st.binary(max_size=80) | texts.map(str.encode))
def test_any_bytes_are_a_table_or_have_a_sentence_that_says_why_not(content: bytes) -> None:
    for read in (tables.read_labels, tables.read_gene_sets, tables.count_labels):
        try:
            read(content)
        except Malformed as problem:
            assert str(problem).endswith(".")  # noqa: PT017 - it may be raised, and need not


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"index,a\nc1,x\nc2\n", "The row of 'c2' has 1 fields, but the header has 2."),
        (b"index,a\nc1,x\nc2,y,z\n", "The row of 'c2' has 3 fields, but the header has 2."),
        (b"index,a,a\nc1,x,y\n", "The category 'a' is there twice."),
        (b"index,a\nc1,x\nc1,y\n", "The cell 'c1' is there twice."),
        (b'index,a\n"c1",x\n"c1",y\n', "The cell 'c1' is there twice."),
        (b"index,a\nc\xff,x\n", "It is not text in UTF-8; save it as “CSV UTF-8”."),
        (b'index,a\nc1,"x\n', "is not CSV"),
        (b"index,a\n" + b"c" * 100_000 + b",x,y\n", "The row of '" + "c" * 60 + "…' has 3 fields"),
        (b"index,a\n" + b"c" * 200_000 + b",x,y\n", "Line 2 of the table is not CSV: field larger than"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(content: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=re.escape(said)):
        tables.read_labels(content)


@pytest.mark.parametrize(
    "content", [b"\r\n\r\nindex,a\r\nc1,x\r\n\r\n", b"\xef\xbb\xbfindex,a\nc1,x", b'"index","a"\n"c1","x"\n\n']
)
def test_tables_of_other_programs_are_read(content: bytes) -> None:
    assert tables.read_labels(content) == LabelTable("index", ("c1",), {"a": ("x",)})


names = texts.filter(bool)


@given(st.lists(st.builds(GeneSet, names, texts, st.lists(st.tuples(names, texts)).map(tuple))))
def test_gene_sets_are_read_as_they_were_written(sets: list[GeneSet]) -> None:
    unique = {each.name: each for each in sets}
    assert tables.read_gene_sets(tables.gene_sets_csv(unique.values()).encode()) == unique


def test_gene_sets_of_other_programs_are_read() -> None:
    content = (
        b"#c\ngene_set_name,gene_set_description,gene_symbol,gene_description,more\ns,,A\n# why, not\ns,why,B,b,x\nt\n"
    )
    assert tables.read_gene_sets(content) == {
        "s": GeneSet("s", "why", (("A", ""), ("B", "b"))),
        "t": GeneSet("t"),
    }
    with pytest.raises(Malformed, match="name the columns"):
        tables.read_gene_sets(b"a,b\n")
    with pytest.raises(Malformed, match="'A' is in a set without a name"):
        tables.read_gene_sets(b"gene_set_name,gene_set_description,gene_symbol,gene_description\n,,A,\n")
