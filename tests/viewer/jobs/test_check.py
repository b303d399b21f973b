"""What a table of labels that somebody uploads would do: said before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import forking
from cxg_proxy import annotations
from cxg_proxy.annotations.tables import LabelTable, labels_csv, read_labels
from cxg_proxy.viewer.jobs.check import Upload
from places import CHECKOUT
from viewer_fixtures import cells

CELLS = [f"cell#{number}" for number in range(60)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "checked.h5ad"
    data = cells()
    data.obs["barcode"] = [f"bc{number}" for number in range(60)]
    data.write_h5ad(file)
    return file


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "home" / "labels"


def check(dataset: Path, where: Path, content: bytes, options: Any = None) -> tuple[dict[str, Any], Path]:
    """What the child says, and the file it makes."""
    table, output = where.parent / "table.csv", where.parent / "checked.csv"
    where.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(content)
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "cxg_proxy.viewer", "check", "--labels", where, "--input", table]
    command += ["--options", json.dumps(options or {}), "--output", output, "--", dataset]
    with forking.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT) as child:
        assert child.stdout
        (line,) = child.stdout
    assert child.returncode == 0
    said = json.loads(line)
    assert (said["problem"] is None) == output.exists()
    return said, output


def text(table: LabelTable) -> bytes:
    return labels_csv(table).encode()


def test_what_matches_what_does_not_and_what_would_change_is_counted(dataset: Path, where: Path) -> None:
    saved = LabelTable("index", tuple(CELLS), {"type": ("T",) * 60, "state": ("x",) * 60})
    annotations.write(where, annotations.LABELS, text(saved))
    rows = "".join(f"{cell},B,{number}\n" for number, cell in enumerate(CELLS[:10]))
    before = annotations.versions(where)
    said, output = check(dataset, where, b"\xef\xbb\xbf# mine\ncell,type,new\n" + rows.encode() + b"other,B,1\n")
    assert {name: said[name] for name in ("matched", "unmatched", "missing", "cells", "unmatched_names")} == {
        "matched": 10,
        "unmatched": 1,
        "missing": 50,
        "cells": 60,
        "unmatched_names": ["other"],
    }
    assert said["columns"] == [
        {"name": "type", "labels": 1, "new": False, "changed": 60},  # 10 others, and 50 without a row
        {"name": "new", "labels": 10, "new": True, "changed": 10},
    ]
    made = read_labels(output.read_bytes())
    assert list(made.cells) == CELLS
    assert made.columns["type"] == ("B",) * 10 + ("unassigned",) * 50
    assert output.stat().st_mode & 0o777 == 0o600
    assert annotations.versions(where) == before


def test_cells_may_be_named_by_the_column_that_the_viewer_was_told_to_take(dataset: Path, where: Path) -> None:
    said, output = check(dataset, where, b"x,type\nbc3,T\nbc1,B\n", {"obs_names": "barcode"})
    assert (said["matched"], said["unmatched"]) == (2, 0)
    made = read_labels(output.read_bytes())
    assert (made.index, made.cells[1], made.columns["type"][1]) == ("barcode", "bc1", "B")


MANY = b"cell#1," + b"x" * 2_000_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "It holds no table"),
        (b"# only a comment\n", "It holds no table"),
        (b"index,type\n", "no cells below it"),
        (b"index\ncell#1\n", "has one column only"),
        (b"index;type\ncell#1;T\n", "with commas between the fields"),
        (b"index,type\nother,T\n", "begins with 'other', the dataset's cells with 'cell#0'"),
        (b"index,type\ncell#1,T\ncell#1,B\n", "The cell 'cell#1' is in line 2 and in line 3"),
        (b"index,type,type\ncell#1,T,B\n", "two columns are named 'type'"),
        (b"index,type,\ncell#1,T,B\n", "column 3 has no name"),
        (b"index,type\ncell#1,T,B\n", "Line 2 has 3 fields, but the first line has 2"),
        (b"index,kind\ncell#1,T\n", "overlap with h5ad obs columns ['kind']"),
        (b"index,type\ncell\xff,T\n", "Line 2 is not text in UTF-8"),
        ("index,type\n".encode("utf-16"), "It is text in UTF-16"),
        (b"index,type\ncell#1,\0\n", "Line 2 holds a NUL character"),
        (b"index,type\n" + MANY, "Line 2 is longer than 1000 kB"),
        (b'index,type\ncell#1,"T\n', "is not CSV"),
        (b"\x1f\x8b\x08\x00" + bytes(100), "NUL character"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_why_and_in_which_line(
    dataset: Path, where: Path, content: bytes, said: str
) -> None:
    found = check(dataset, where, content)[0]["problem"]
    assert found["kind"] == "LabelsNotReadable"
    assert said in found["sentence"]
    assert found["steps"]
    assert "Traceback" not in found["sentence"]


def test_a_dataset_that_cannot_be_read_is_told(dataset: Path, where: Path, tmp_path: Path) -> None:
    (tmp_path / "no.h5ad").write_text("no")
    assert check(tmp_path / "no.h5ad", where, b"index,type\ncell#1,T\n")[0]["problem"]["kind"] == "NotH5ad"


def test_saved_labels_that_nobody_can_read_are_no_hindrance(dataset: Path, where: Path) -> None:
    where.mkdir(parents=True)
    (where / annotations.LABELS).write_text("index,type\ncell#1\n")
    assert check(dataset, where, b"index,type\ncell#1,T\n")[0]["columns"][0]["new"] is True


names = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(names.filter(bool), unique=True, min_size=1, max_size=8), st.data())
def test_any_table_of_ours_is_read_as_it_is(tmp_path: Path, cells: list[str], data: st.DataObject) -> None:
    labels = data.draw(st.lists(names, min_size=len(cells), max_size=len(cells)))
    file = tmp_path / "table.csv"
    file.write_bytes(text(LabelTable("index", tuple(cells), {"type": tuple(labels)})))
    upload = Upload()
    with file.open("rb") as opened:
        upload.read(opened, {cell: place for place, cell in enumerate(cells)})
    assert upload.matched == len(cells)
    assert list(upload.categories[0].texts()) == [label or "unassigned" for label in labels]
