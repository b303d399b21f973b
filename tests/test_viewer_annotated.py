"""The copy of a dataset that holds the labels too: read by anndata, and in all else what the original is."""

import json
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

import cxg_proxy
from cxg_proxy import annotations
from cxg_proxy.fitting import ordered
from cxg_proxy.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv
from cxg_proxy.viewer.enrich import enrich
from viewer_fixtures import ROOT, cells, until

KINDS = [("T cell", "B", "10", "9")[number % 4] for number in range(60)]
SETS = [
    GeneSet("CD4/CD8", "of T cells", (("gene1", "one"), ("gene2", ""))),
    GeneSet("none yet"),
    GeneSet('a "wild" name, 🧬', "", (("gene3", ""),)),
]


def save(where: Path, *sets: GeneSet, cell: str = "cell#{}", **columns: list[str]) -> None:
    names = tuple(cell.format(number) for number in range(len(next(iter(columns.values()), []))))
    table = LabelTable("index", names, {name: tuple(labels) for name, labels in columns.items()})
    if columns:
        annotations.write(where, annotations.LABELS, labels_csv(table).encode())
    if sets:
        annotations.write(where, annotations.GENE_SETS, gene_sets_csv(sets).encode())


def started(dataset: Path, where: Path, output: Path, options: Any = None, **popen: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cxg_proxy.viewer", "annotate", "--labels", where]
    command += ["--options", json.dumps(options or {}), "--output", output, "--", dataset]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, **popen)


def annotate(dataset: Path, where: Path, output: Path, options: Any = None, **popen: Any) -> list[dict[str, Any]]:
    """The steps; that the last one is told by the exit status and by the file is checked here."""
    with started(dataset, where, output, options, **popen) as child:
        assert child.stdout
        assert child.stderr
        steps = [json.loads(line) for line in child.stdout]
        log = child.stderr.read().decode()
    assert steps[0]["phase"] == "starting", log
    assert [step["phase"] for step in steps[1:-1]] == ["loading"] * (len(steps) - 2)
    assert (steps[-1]["phase"], child.returncode) in (("ready", 0), ("failed", 1)), log
    return steps


def problem(*arguments: Any, **popen: Any) -> dict[str, Any]:
    steps = annotate(*arguments, **popen)
    assert steps[-1]["phase"] == "failed"
    return steps[-1]["problem"]


def read(path: Path) -> anndata.AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old files
        return anndata.read_h5ad(path)


def content(path: Path) -> dict[str, Any]:
    """All that is in an HDF5 file, by name: bytes, kind of storage and attributes."""
    found: dict[str, Any] = {}

    def look(name: str, element: Any) -> None:
        attributes = {key: np.asarray(value).tolist() for key, value in element.attrs.items()}
        stored: Any = None
        if isinstance(element, h5py.Dataset):
            stored = (element.dtype, element.shape, element.chunks, element.compression, np.asarray(element).tobytes())
            if element.dtype.kind == "O":
                stored = (*stored[:4], np.asarray(element).tolist())
        found[name] = (attributes, stored)

    with h5py.File(path) as file:
        file.visititems(look)
        look("", file)
    return found


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A dataset with something of everything."""
    path = tmp_path / "rich cells.h5ad"
    data = cells()
    data.layers["counts"] = sparse.csr_matrix(np.eye(60, 12, dtype=np.float32))
    data.obsp["near"] = sparse.csr_matrix(np.eye(60))
    data.varm["PCs"] = np.ones((12, 3))
    data.raw = data.copy()
    data.uns["deep"] = {"er": {"x": np.arange(3), "text": "ü"}}
    data.write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "home" / "rich"


def test_the_copy_holds_labels_and_gene_sets_and_is_else_the_original(rich: Path, where: Path, tmp_path: Path) -> None:
    save(where, *SETS, mine=KINDS, other=["unassigned", *["x"] * 59])
    before, output = rich.read_bytes(), tmp_path / "annotated.h5ad"
    steps = annotate(rich, where, output)
    assert steps[-1] == {"phase": "ready"}
    assert rich.read_bytes() == before
    assert output.stat().st_mode & 0o777 == 0o600
    data = read(output)
    assert data.obs["mine"].tolist() == KINDS
    assert data.obs["mine"].cat.categories.tolist() == ["9", "10", "B", "T cell"]
    assert data.obs["other"].cat.categories.tolist() == ["x", "unassigned"]
    assert data.obs.columns.tolist() == ["kind", "size", "mine", "other"]
    table = data.uns["gene_sets"]
    assert table.columns.tolist() == ["gene_set_name", "gene_set_description", "gene_symbol", "gene_description"]
    sets = table.groupby("gene_set_name", sort=False)["gene_symbol"].agg(list).to_dict()
    assert sets == {"CD4/CD8": ["gene1", "gene2"], "none yet": [""], 'a "wild" name, 🧬': ["gene3"]}
    original, copy = content(rich), content(output)
    more = {name for name in copy if name not in original}
    assert {name.split("/")[1] for name in more} == {"mine", "other", "gene_sets", "cellxgene_categories"}
    changed = {name for name in original if original[name] != copy[name]}
    assert changed == {"obs"}
    assert {key for key in original["obs"][0] if original["obs"][0][key] != copy["obs"][0][key]} == {"column-order"}


def test_a_real_dataset_comes_back_with_its_labels(tmp_path: Path) -> None:
    path, where, output = tmp_path / "pbmc.h5ad", tmp_path / "home", tmp_path / "out.h5ad"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file in scanpy is older than today's anndata
        sc.datasets.pbmc68k_reduced().write_h5ad(path)
    names = tuple(reversed(read(path).obs_names))
    table = LabelTable("index", names[100:], {"mine": tuple(f"{name}!" for name in names[100:])})
    annotations.write(where, annotations.LABELS, labels_csv(table).encode())
    annotate(path, where, output)
    data = read(output)
    assert data.obs["mine"].tolist() == [f"{name}!" for name in data.obs_names[:600]] + ["unassigned"] * 100
    assert len(data.obs["mine"].cat.categories) == 601
    data.write_h5ad(tmp_path / "again.h5ad")


def test_cells_can_be_named_by_another_column(where: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "named.h5ad", tmp_path / "out.h5ad"
    data = cells()
    data.obs["barcode"] = [f"bar,{number}" for number in range(60)]
    data.write_h5ad(path)
    save(where, cell="bar,{}", mine=KINDS)
    annotate(path, where, output, {"obs_names": "barcode"})
    assert read(output).obs["mine"].tolist() == KINDS
    output.unlink()
    annotate(path, where, output)
    assert read(output).obs["mine"].tolist() == ["unassigned"] * 60
    (path.parent / "named.h5ad.cxg.yaml").write_text("obs_names: nothing\n")
    assert problem(path, where, tmp_path / "none.h5ad")["kind"] == "BadOptions"


def test_names_that_no_file_can_hold_are_replaced_and_said(rich: Path, where: Path, tmp_path: Path) -> None:
    names = ["CD4/CD8", "CD4_CD8", ".", "_index", "__categories", "a.b", "kind_2"]
    save(where, **{name: [name] * 60 for name in names})
    steps = annotate(rich, where, tmp_path / "out.h5ad")
    assert "The category 'CD4/CD8' is the column 'CD4_CD8'" in steps[-1]["note"]
    data = read(tmp_path / "out.h5ad")
    found = {column: data.obs[column].iloc[0] for column in data.obs.columns[2:]}
    assert sorted(found.values()) == sorted(names)
    assert found["CD4_CD8"] == "CD4/CD8"
    assert found["CD4_CD8_2"] == "CD4_CD8"


def test_a_table_of_the_datasets_own_called_gene_sets_stays(rich: Path, where: Path, tmp_path: Path) -> None:
    with h5py.File(rich, "a") as file:
        anndata.io.write_elem(file["uns"], "gene_sets", {"mine": np.array(["gene5"])})
    save(where, *SETS)
    first, again = tmp_path / "first.h5ad", tmp_path / "again.h5ad"
    steps = annotate(rich, where, first)
    assert "uns['cellxgene_gene_sets']" in steps[-1]["note"]
    data = read(first)
    assert data.uns["gene_sets"]["mine"].tolist() == ["gene5"]
    assert len(data.uns["cellxgene_gene_sets"]) == 4
    with h5py.File(first, "a") as file:
        del file["uns/gene_sets"]
        file.move("uns/cellxgene_gene_sets", "uns/gene_sets")
    save(where, SETS[0])
    assert "note" not in annotate(first, where, again)[-1]
    assert len(read(again).uns["gene_sets"]) == 2


def test_a_copy_in_a_notebook_takes_newer_labels(rich: Path, where: Path, tmp_path: Path) -> None:
    home = where.parent
    mine = annotations.directory(home, rich)
    save(mine, *SETS, mine=KINDS, more=KINDS)
    annotate(rich, mine, tmp_path / "out.h5ad")
    save(mine, SETS[0], mine=KINDS[::-1])
    data = cxg_proxy.annotate(read(tmp_path / "out.h5ad"), rich, home=home)
    assert data.obs["mine"].tolist() == KINDS[::-1]
    assert data.obs["more"].tolist() == KINDS
    assert len(data.uns["gene_sets"]) == 2


def test_a_copy_of_a_copy_knows_the_categories_of_both(rich: Path, where: Path, tmp_path: Path) -> None:
    save(where, mine=KINDS)
    annotate(rich, where, tmp_path / "one.h5ad")
    save(where.parent / "two", other=KINDS)
    annotate(tmp_path / "one.h5ad", where.parent / "two", tmp_path / "two.h5ad")
    assert read(tmp_path / "two.h5ad").uns["cellxgene_categories"].tolist() == ["mine", "other"]


def test_nothing_saved_gives_the_same_file(rich: Path, where: Path, tmp_path: Path) -> None:
    annotate(rich, where, tmp_path / "out.h5ad")
    assert content(tmp_path / "out.h5ad") == content(rich)


def as_in_0_7(path: Path) -> None:
    """Write obs as AnnData 0.7 did: categories in a group of their own, and other versions of the encoding."""
    with h5py.File(path, "a") as file:
        obs = file["obs"]
        obs.attrs["encoding-version"] = "0.1.0"
        codes, labels = obs["kind/codes"][:], obs["kind/categories"][:]
        del obs["kind"]
        obs["kind"] = codes
        obs["__categories/kind"] = labels
        obs["__categories/kind"].attrs["ordered"] = False
        obs["kind"].attrs["categories"] = obs["__categories/kind"].ref


def as_before_0_7(path: Path) -> None:
    """One table for obs and one for var, with the categories in uns."""
    with h5py.File(path, "a") as file:
        names, codes, labels = (file[f"obs/{name}"][:] for name in ("_index", "kind/codes", "kind/categories"))
        genes, sizes = file["var/_index"][:], file["obs/size"][:]
        del file["obs"], file["var"], file["uns"], file.attrs["encoding-type"], file.attrs["encoding-version"]
        rows = list(zip(names, codes, sizes, strict=True))
        file["obs"] = np.array(rows, dtype=[("index", "S20"), ("kind", "i1"), ("size", "f4")])
        file["var"] = np.array([(gene, number % 2) for number, gene in enumerate(genes)], "S20,i1")
        file["var"].attrs["about"] = "names only"
        file["uns/kind_categories"] = labels
        file["uns/f1_categories"] = np.array([b"odd", b"even"])
        file["uns/kept"] = 5


@pytest.mark.parametrize("age", [as_in_0_7, as_before_0_7])
def test_files_of_any_age_are_annotated(tmp_path: Path, where: Path, age: Callable[[Path], None]) -> None:
    path, output = tmp_path / "old.h5ad", tmp_path / "out.h5ad"
    cells().write_h5ad(path)
    age(path)
    save(where, SETS[0], mine=KINDS)
    annotate(path, where, output)
    original, data = read(path), read(output)
    assert data.obs["mine"].tolist() == KINDS
    assert len(data.uns.pop("gene_sets")) == 2
    pd.testing.assert_frame_equal(data.obs.drop(columns="mine"), original.obs)
    pd.testing.assert_frame_equal(data.var, original.var)
    assert data.obs["kind"].cat.categories.tolist() == ["B", "NK", "T"]
    assert data.uns.pop("cellxgene_categories").tolist() == ["mine"]
    assert set(data.uns) == set(original.uns)
    assert np.array_equal(data.X, original.X)
    assert np.array_equal(data.obsm["X_umap"], original.obsm["X_umap"])


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, st.lists(TEXTS, min_size=6, max_size=6), max_size=4), st.lists(st.tuples(TEXTS, TEXTS)))
def test_any_names_and_labels_come_back(
    tmp_path: Path, labels: dict[str, list[str]], genes: list[tuple[str, str]]
) -> None:
    path = tmp_path / "wild.h5ad"
    path.unlink(missing_ok=True)
    cells(6).write_h5ad(path)
    sets = {name: GeneSet(name, text, tuple(genes)) for name, (text, *_) in labels.items()}
    enrich(str(path), labels, sets)
    data = read(path)
    assert [data.obs[column].tolist() for column in data.obs.columns[2:]] == list(labels.values())
    assert all(data.obs[column].cat.categories.tolist() == ordered(data.obs[column]) for column in data.obs.columns[2:])


@pytest.mark.parametrize("room", [0.5, 1.005], ids=["while copying", "while adding"])
def test_a_full_disk_is_said_and_leaves_nothing_behind(rich: Path, where: Path, tmp_path: Path, room: float) -> None:
    save(where, *SETS, mine=[f"label {number} {'long' * 50}" for number in range(60)])
    most = int(rich.stat().st_size * room)
    limit: Any = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731 - it runs in the child
    found = problem(rich, where, tmp_path / "out.h5ad", preexec_fn=limit)
    assert found["kind"] == "NotPrepared"
    assert "the disk is full" in found["sentence"]
    assert not (tmp_path / "out.h5ad").exists()


def test_what_is_there_already_is_not_touched(rich: Path, where: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5ad"
    output.write_text("mine")
    assert problem(rich, where, output)["kind"] == "NotPrepared"
    assert output.read_text() == "mine"
    (tmp_path / "link.h5ad").symlink_to(tmp_path / "elsewhere")
    assert problem(rich, where, tmp_path / "link.h5ad")["kind"] == "NotPrepared"
    assert not (tmp_path / "elsewhere").exists()


def test_what_cannot_be_read_is_named(rich: Path, where: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5ad"
    save(where, kind=KINDS)
    found = problem(rich, where, output)
    assert found["kind"] == "LabelsNotReadable"
    assert "the dataset itself has a category named 'kind' now" in found["sentence"]
    (where / annotations.LABELS).write_text("index,a\ncell,1,2\n")
    assert problem(rich, where, output)["kind"] == "LabelsNotReadable"
    assert problem(tmp_path / "missing.h5ad", where, output)["kind"] == "DatasetNotFound"
    assert not output.exists()


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """200 MB: copying them takes a while, and none of them belongs into memory."""
    path = tmp_path / "long.h5ad"
    cells(5000, 10_000).write_h5ad(path)
    return path


@pytest.mark.parametrize("end", ["leash", signal.SIGTERM])
def test_who_stops_waiting_leaves_nothing_behind(long: Path, where: Path, tmp_path: Path, end: object) -> None:
    output = tmp_path / "out.h5ad"
    save(where, mine=KINDS)
    with started(long, where, output) as child:
        assert child.stdin
        until(output.exists)
        child.stdin.close() if end == "leash" else child.send_signal(end)
        assert child.wait(10) == 0
        assert child.stdout
        assert b"ready" not in child.stdout.read()
    assert not output.exists()


def test_memory_is_bounded_and_progress_rises(long: Path, where: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5ad"
    save(where, mine=KINDS * 83)
    most = 256 * 1024**2  # with the matrix it would be more
    steps = annotate(long, where, output, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)))
    assert steps[-1]["phase"] == "ready", steps
    done = [step["done"] for step in steps if "done" in step]
    assert done == sorted(done)
    assert max(done) <= 1
    with h5py.File(output) as file:
        assert file["obs/mine/codes"].shape == (5000,)
