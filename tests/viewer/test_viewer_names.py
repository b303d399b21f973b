"""Cells, categories and labels may be called anything: a real worker gives back what it was given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy import annotations
from cxg_proxy.annotations import tables
from cxg_proxy.viewer.cellxgene.labels import read_table
from viewer_fixtures import Server, cells, worker
from viewer_labels import BINARY, read, save, table

# cellxgene's encoder calls flatbuffers as its version 2.0 wished.
pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")

NAMES = [
    "plain",
    "# like a comment",
    "=1+1",
    "a,b",
    'with "quotes"',
    "'single'",
    "two\nlines",
    "carriage\rreturn",
    "both\r\n",
    " spaces ",
    "\ttab",
    "ümlaut",
    "\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\N{MICROSCOPE}",
    "עברית",
    "x" * 200,
    ",",
    '"',
    "nan",
    "NA",
    "None",
    "1e5",
    "007",
    "../../etc/passwd",
    "<script>alert(1)</script>",
]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "labels"


@pytest.fixture(scope="module")
def server(where: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = cells(len(NAMES))
    data.obs_names = NAMES
    file = tmp_path_factory.mktemp("data") / "named.h5ad"
    data.write_h5ad(file)
    with worker(file, where) as running:
        yield running


def test_labels_of_cells_with_any_name_are_given_back_and_written_beside_that_name(server: Server, where: Path) -> None:
    labels = NAMES[::-1]
    assert save(server, mine=labels).status == 200
    assert read(server, "mine") == labels
    content = annotations.read(where, annotations.LABELS)
    assert content
    written = tables.read_labels(content)
    assert list(written.cells) == NAMES
    assert list(written.columns["mine"]) == labels


@pytest.mark.parametrize("category", NAMES)
def test_a_category_may_have_any_name(category: str, server: Server, where: Path) -> None:
    assert save(server, **{category: ["x"] * len(NAMES)}).status == 200
    content = annotations.read(where, annotations.LABELS)
    assert content
    assert tables.read_labels(content).columns[category] == ("x",) * len(NAMES)
    columns = server.api("schema").json["schema"]["annotations"]["obs"]["columns"]
    assert category in [column["name"] for column in columns]


names = st.sampled_from([*NAMES, "", "plain"]) | st.text(st.characters(exclude_categories=("Cs",)), max_size=6)


@given(st.lists(names, unique=True, max_size=6), st.lists(names, unique=True, max_size=3), names, st.data())
def test_the_viewers_fast_way_to_read_a_table_gives_what_the_slow_one_gives(
    cells: list[str], categories: list[str], index: str, data: st.DataObject
) -> None:
    columns = {name: tuple(data.draw(names) for _ in cells) for name in categories}
    for content in (
        tables.labels_csv(tables.LabelTable(index, tuple(cells), columns)).encode(),
        data.draw(st.text('a,"\n#', max_size=20)).encode(),
    ):
        with contextlib.suppress(tables.Malformed):  # of which pandas accepts a little more
            expected = tables.read_labels(content)
            found = read_table(content)
            assert found.texts == expected
            assert {name: tuple(column) for name, column in found.columns.items()} in ({}, expected.columns)


def test_a_thousand_labels_in_one_category_are_given_back(tmp_path: Path) -> None:
    file, labels = tmp_path / "many.h5ad", [f"label {number}" for number in range(1000)]
    cells(1000).write_h5ad(file)
    with worker(file, tmp_path / "labels") as server:
        assert save(server, mine=labels).status == 200
        assert read(server, "mine") == labels
        columns = server.api("schema").json["schema"]["annotations"]["obs"]["columns"]
        (mine,) = [column for column in columns if column["name"] == "mine"]
        assert sorted(mine["categories"]) == sorted(labels)


def test_a_category_named_like_a_column_of_the_dataset_gets_cellxgenes_own_error(server: Server, where: Path) -> None:
    before = annotations.read(where, annotations.LABELS)
    reply = server.api("annotations/obs", "PUT", table(kind=["x"] * len(NAMES)), **BINARY)
    assert reply.status == 400
    assert "may not contain column names which overlap with h5ad obs columns ['kind']" in reply.json["message"]
    assert annotations.read(where, annotations.LABELS) == before
