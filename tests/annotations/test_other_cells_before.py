"""A file at the path of another: what was saved for the cells of the one before stays theirs."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import numpy as np
import pytest

import cxg_proxy
from cxg_proxy import annotations
from cxg_proxy.annotations import DATASET, GENE_SETS, LABELS, DatasetRecord, SeenState
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv, read_labels
from cxg_proxy.errors import LabelsNotSaved

PATH = "/data/pbmc.h5ad"
BEFORE, AFTER, THIRD = ("a1", "a2", "a3"), ("b1", "b2"), ("a1", "a2", "c1")
SETS = gene_sets_csv([GeneSet("mine", "", (("CD3E", ""),))]).encode()
NOW = 1_700_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def where(home: Path) -> Path:
    """Labels and gene sets of the file that was at the path before."""
    folder = annotations.directory(home, Path(PATH))
    save(folder, BEFORE, type="T")
    annotations.write(folder, GENE_SETS, SETS, record=lambda: record(BEFORE), now=NOW)
    return folder


def record(cells: tuple[str, ...]) -> DatasetRecord:
    return DatasetRecord("pbmc.h5ad", PATH, len(cells), annotations.identifiers_digest(cells))


def csv(cells: tuple[str, ...], **columns: str) -> bytes:
    return labels_csv(
        LabelTable("index", cells, {name: (each,) * len(cells) for name, each in columns.items()})
    ).encode()


def save(where: Path, cells: tuple[str, ...], **columns: str) -> None:
    annotations.write(where, LABELS, csv(cells, **columns), seen=SeenState(), record=lambda: record(cells), now=NOW)


def offered(home: Path, cells: tuple[str, ...], excluding: str = "/data/old.h5ad") -> list[Path]:
    found = annotations.same_cells(
        home, annotations.identifiers_digest(cells), excluding=annotations.named(home, excluding)
    )
    assert all(each == record(cells) for _, each in found)
    return [folder for folder, _ in found]


def annotated(home: Path, cells: tuple[str, ...]) -> list[str]:
    data = anndata.AnnData(np.ones((len(cells), 1), dtype=np.float32))
    data.obs_names = list(cells)
    return list(cxg_proxy.annotate(data, home=home).obs["type"])


def test_labels_of_the_cells_before_are_offered_to_their_file_under_its_new_name(home: Path, where: Path) -> None:
    assert offered(home, BEFORE) == [where]
    save(where, AFTER, type="B")
    (apart,) = offered(home, BEFORE)
    assert apart.parent == home
    assert annotations.read(apart, LABELS) == csv(BEFORE, type="T")
    assert annotations.read(apart, GENE_SETS) == SETS
    assert annotations.read_record(where) == record(AFTER)
    assert read_labels(annotations.read(where, LABELS) or b"").columns == {"type": ("B", "B")}
    old = annotations.named(home, "/data/old.h5ad")
    assert annotations.saved(old) is None  # nothing is adopted unasked
    annotations.adopt(old, apart)
    assert annotations.read(old, LABELS) == csv(BEFORE, type="T")


def test_versions_of_before_stay_in_the_history_of_the_path(home: Path, where: Path) -> None:
    save(where, AFTER, type="B")
    kept = [annotations.read_version(where, each.id) for each in annotations.versions(where)]
    assert csv(BEFORE, type="T") in kept


def test_a_notebook_finds_them_by_the_cells_alone_and_by_some_of_them(home: Path, where: Path) -> None:
    save(where, AFTER, type="B")
    assert annotated(home, BEFORE) == ["T", "T", "T"]
    assert annotated(home, BEFORE[:2]) == ["T", "T"]
    assert annotated(home, AFTER) == ["B", "B"]


def test_a_notebook_takes_what_was_saved_last_where_the_path_has_had_these_cells_more_than_once(
    home: Path, where: Path
) -> None:
    save(where, THIRD, type="B")
    assert annotated(home, ("a1", "a2")) == ["B", "B"]
    save(where, BEFORE, type="NK")
    assert annotated(home, BEFORE) == ["NK", "NK", "NK"]


def test_files_that_take_turns_at_a_path_replace_nothing_of_each_other(home: Path, where: Path) -> None:
    for turn in range(3):
        save(where, AFTER, type=f"B {turn}")
        save(where, BEFORE, type=f"T {turn}", other="x")
    save(where, AFTER, type="B")
    labels = [
        read_labels(annotations.read(folder, LABELS) or b"").columns["type"][0] for folder in offered(home, BEFORE)
    ]
    assert set(labels) == {"T", "T 0", "T 1", "T 2"}


def test_a_second_save_for_the_same_cells_copies_nothing(home: Path, where: Path) -> None:
    save(where, BEFORE, state="x")
    assert os.listdir(home) == [where.name]
    for _ in range(3):
        save(where, AFTER, type="B")
        annotations.write(where, GENE_SETS, SETS, record=lambda: record(AFTER))
    assert len(os.listdir(home)) == 2


def test_gene_sets_alone_are_kept_for_the_cells_of_each_file(home: Path) -> None:
    where = annotations.directory(home, Path(PATH))
    for cells in (BEFORE, AFTER, THIRD):
        annotations.write(where, GENE_SETS, SETS, record=lambda cells=cells: record(cells))  # type: ignore[misc]
    assert [len(offered(home, cells, PATH)) for cells in (BEFORE, AFTER, THIRD)] == [1, 1, 0]


def test_a_save_that_cannot_keep_them_is_refused_and_changes_nothing(home: Path, where: Path) -> None:
    save(where, AFTER, type="B")
    (apart,) = offered(home, BEFORE)
    for file in sorted(apart.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    apart.rmdir()
    apart.write_text("a file where the folder should be")
    annotations.write(where, LABELS, csv(BEFORE, type="T"), record=lambda: record(BEFORE), now=NOW)
    kept = {file: file.read_bytes() for file in where.rglob("*.csv*")}
    with pytest.raises(LabelsNotSaved, match="Not a directory"):
        save(where, AFTER, type="NK")
    assert {file: file.read_bytes() for file in where.rglob("*.csv*")} == kept
    assert annotations.read_record(where) == record(BEFORE)


def test_a_save_that_cannot_keep_whose_cells_they_are_is_refused_too(home: Path, where: Path) -> None:
    save(where, AFTER, type="B")
    (apart,) = offered(home, BEFORE)
    (apart / DATASET).unlink()
    (apart / DATASET).mkdir()
    annotations.write(where, LABELS, csv(BEFORE, type="T"), record=lambda: record(BEFORE), now=NOW)
    with pytest.raises(LabelsNotSaved, match="could not be kept"):
        save(where, AFTER, type="NK")
    assert annotations.read(where, LABELS) == csv(BEFORE, type="T")
    assert annotations.read_record(where) == record(BEFORE)


def test_labels_made_in_python_for_a_new_file_leave_those_of_the_one_before_to_its_cells(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pbmc.h5ad"
    for cells, label in ((BEFORE, "T"), (AFTER, "B")):
        data = anndata.AnnData(np.ones((len(cells), 1), dtype=np.float32))
        data.obs_names = list(cells)
        file.unlink(missing_ok=True)
        data.write_h5ad(file)
        data.obs["type"] = label
        cxg_proxy.save_labels(file, data.obs["type"], home=home)
    assert (annotated(home, BEFORE), annotated(home, AFTER)) == (["T"] * 3, ["B"] * 2)
