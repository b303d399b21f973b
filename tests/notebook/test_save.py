"""Labels made in Python, saved for the viewer."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import cxg_proxy
from cxg_proxy import annotations
from cxg_proxy.errors import LabelsNotSaved

CELLS = ["cell 1", "cell, 2", "zelle#3 🧬"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def series(*labels: object, name: str | None = "type") -> pd.Series:
    return pd.Series(labels, index=CELLS, name=name, dtype=object)


def test_saved_labels_are_read_back_as_they_were(home: Path) -> None:
    cxg_proxy.save_labels("/data/a.h5ad", series("T", "B, naive", "<b>"), home=home)
    labels = cxg_proxy.labels("/data/a.h5ad", home=home)
    assert list(labels.index) == CELLS
    assert list(labels["type"]) == ["T", "B, naive", "<b>"]


def test_a_missing_value_is_a_cell_without_a_label(home: Path) -> None:
    table = pd.DataFrame({"type": ["T", None, ""], "score": [1, float("nan"), 2]}, index=CELLS)
    cxg_proxy.save_labels("/data/a.h5ad", table, home=home)
    labels = cxg_proxy.labels("/data/a.h5ad", home=home)
    assert list(labels["type"]) == ["T", "unassigned", "unassigned"]
    assert list(labels["score"]) == ["1.0", "unassigned", "2.0"]


def test_pandas_own_missing_value_is_a_cell_without_a_label_too(home: Path) -> None:
    labels = pd.Series(["T", pd.NA, "B"], index=CELLS, name="type", dtype="string")
    cxg_proxy.save_labels("/data/a.h5ad", labels, home=home)
    assert list(cxg_proxy.labels("/data/a.h5ad", home=home)["type"]) == ["T", "unassigned", "B"]


@pytest.mark.parametrize("older", [False, True])
def test_a_column_of_the_dataset_is_no_name_for_labels_as_the_viewer_could_not_show_them(
    home: Path, tmp_path: Path, older: bool
) -> None:
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        if older:
            file["obs"] = np.zeros(3, [("index", "S9"), ("type", "i1")])
        else:
            file["obs/type"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"a column 'type' of its own\. Give your labels another name"):
        cxg_proxy.save_labels(tmp_path / "a.h5ad", series("T", "B", "B"), home=home)
    assert not home.exists()
    cxg_proxy.save_labels(tmp_path / "a.h5ad", series("T", "B", "B", name="my types"), home=home)


def test_a_category_of_the_same_name_is_replaced_and_kept_and_others_stay(home: Path) -> None:
    cxg_proxy.save_labels("/data/a.h5ad", pd.DataFrame({"a": list("xyz"), "b": list("uvw")}, index=CELLS), home=home)
    cxg_proxy.save_labels("/data/a.h5ad", series("1", "2", "3", name="b")[::-1], home=home)
    labels = cxg_proxy.labels("/data/a.h5ad", home=home).loc[CELLS]
    assert labels.to_dict("list") == {"b": ["1", "2", "3"], "a": list("xyz")}
    assert len(annotations.versions(annotations.directory(home, Path("/data/a.h5ad")))) == 2


def test_labels_of_some_cells_leave_the_other_categories_and_cells_as_they_are(home: Path) -> None:
    where = annotations.directory(home, Path("/data/a.h5ad"))
    cxg_proxy.save_labels("/data/a.h5ad", pd.DataFrame({"type": list("TTB"), "b": list("uvw")}, index=CELLS), home=home)
    subtypes = pd.Series(["Treg", "naive"], index=[CELLS[1], CELLS[0]], name="subtype")
    cxg_proxy.save_labels("/data/a.h5ad", subtypes, home=home)
    labels = cxg_proxy.labels("/data/a.h5ad", home=home)
    assert list(labels.index) == CELLS
    assert labels.to_dict("list") == {
        "subtype": ["naive", "Treg", "unassigned"],
        "type": list("TTB"),
        "b": list("uvw"),
    }
    assert not list(where.glob("cell-labels-of-other-cells-*"))
    assert not any(each.replaced for each in annotations.versions(where))


def test_a_category_that_is_replaced_for_some_cells_is_unassigned_for_the_others(home: Path) -> None:
    cxg_proxy.save_labels("/data/a.h5ad", series("T", "B", "B"), home=home)
    cxg_proxy.save_labels("/data/a.h5ad", series("NK", "T", "T").iloc[:1], home=home)
    labels = cxg_proxy.labels("/data/a.h5ad", home=home)
    assert (list(labels.index), list(labels["type"])) == (CELLS, ["NK", "unassigned", "unassigned"])
    newest, before = annotations.versions(annotations.directory(home, Path("/data/a.h5ad")))
    assert (newest.replaced, before.lost) == (("type",), True)


def test_cells_that_were_not_labelled_before_are_added(home: Path) -> None:
    cxg_proxy.save_labels("/data/a.h5ad", series("T", "B", "B").iloc[1:], home=home)
    cxg_proxy.save_labels("/data/a.h5ad", series("x", "y", "z", name="more"), home=home)
    labels = cxg_proxy.labels("/data/a.h5ad", home=home)
    assert list(labels.index) == CELLS
    assert labels.to_dict("list") == {"more": list("xyz"), "type": ["unassigned", "B", "B"]}


def test_what_is_known_of_the_dataset_is_not_forgotten(home: Path) -> None:
    where = annotations.directory(home, Path("/data/a.h5ad"))
    cxg_proxy.save_labels("/data/a.h5ad", series("T", "B", "B"), home=home)
    assert annotations.read_record(where) == annotations.DatasetRecord("a.h5ad", "/data/a.h5ad")
    known = annotations.DatasetRecord("a.h5ad", "/data/a.h5ad", 3, annotations.identifiers_digest(CELLS))
    annotations.write(where, annotations.LABELS, b"", record=lambda: known)
    cxg_proxy.save_labels("/data/a.h5ad", series("T", "B", "B"), home=home)
    assert annotations.read_record(where) == known


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (series("T", "B", "B", name=""), "category"),
        (series("T", "B", "B", name=None), "category"),
        (pd.DataFrame(index=CELLS), "category"),
        (pd.DataFrame([["T", "B"]] * 3, index=CELLS, columns=["a", "a"]), "category"),
        (series("T", "B", "B").iloc[:0], "cell"),
        (pd.Series(["T", "B"], index=["same", "same"], name="type"), "cell"),
    ],
)
def test_labels_without_clear_names_are_not_saved(home: Path, labels: pd.Series, what: str) -> None:
    with pytest.raises(ValueError, match=f"names for each {what}, all different"):
        cxg_proxy.save_labels("/data/a.h5ad", labels, home=home)
    assert not home.exists()


def test_a_folder_that_cannot_be_written_to_is_told(home: Path) -> None:
    home.write_text("no folder")
    with pytest.raises(LabelsNotSaved, match=r"cell-labels\.csv"):
        cxg_proxy.save_labels("/data/a.h5ad", series("T", "B", "B"), home=home)
