"""The copy of a dataset that holds the labels too: read by anndata, and in all else what the original is."""

import resource
import signal
from pathlib import Path
from typing import Any

import h5py
import pytest

import cxg_proxy
from annotated_copies import KINDS, SETS, a_home, a_rich_dataset, annotate, content, problem, read, save, started  # noqa: F401 - fixtures
from cxg_proxy import annotations
from cxg_proxy.annotations.tables import LabelTable, labels_csv
from pbmc import write_pbmc
from viewer_fixtures import cells, until


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
    write_pbmc(path)
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
