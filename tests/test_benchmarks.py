"""The benchmark itself: its data, its table, and that a short run measures every row; not how fast anything is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest

import data
import memory
import picture
import servers
import table
import viewer
from browser import NotServed
from places import CHECKOUT

PROGRAM = CHECKOUT / "benchmarks" / "viewer.py"
SIZE = data.Size(1300, 250)


@pytest.fixture(scope="module", name="generated")
def a_generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("generated") / "generated.h5ad"
    data.write(SIZE, file)
    return file


def test_a_generated_dataset_has_exactly_its_number_of_values_in_order(generated: Path) -> None:
    found = anndata.read_h5ad(generated)
    assert found.shape == (SIZE.cells, SIZE.genes)
    assert found.X.nnz == SIZE.values
    assert found.X.has_canonical_format
    assert (found.X.dtype, found.X.indices.dtype) == (np.float32, np.int32)
    assert found.obs_names.is_unique
    assert np.expm1(found.X).sum(axis=1).max() == pytest.approx(1e4, rel=1e-3)


def test_the_same_seed_makes_the_same_dataset(generated: Path, tmp_path: Path) -> None:
    data.write(SIZE, tmp_path / "again.h5ad")
    with h5py.File(generated) as first, h5py.File(tmp_path / "again.h5ad") as second:
        for name in ("X/data", "X/indices", "X/indptr", "obsm/X_umap", "obs/cell_type/codes", "obs/age"):
            assert np.array_equal(first[name][:], second[name][:]), name
    assert list(tmp_path.iterdir()) == [tmp_path / "again.h5ad"]


def test_cell_types_differ_in_their_genes_and_in_the_embedding(generated: Path) -> None:
    found = anndata.read_h5ad(generated)
    types = found.obs["cell_type"].cat.codes.to_numpy()
    means = np.stack([found.X[types == each].mean(axis=0).A1 for each in np.unique(types)])
    assert (means.max(axis=0) > 2 * np.median(means, axis=0) + 0.5).sum() >= data.CLUSTERS
    umap = found.obsm["X_umap"]
    spread = np.mean([umap[types == each].var(axis=0).sum() for each in np.unique(types)])
    assert spread < 0.2 * umap.var(axis=0).sum()


def test_groups_have_no_cell_in_common(generated: Path) -> None:
    first, second = data.groups_of(generated, SIZE.cells // 2)
    assert len(first) == len(second) == len(set(first)) == SIZE.cells // 2
    assert not set(first) & set(second)


def test_memory_that_is_held_for_a_moment_is_seen() -> None:
    with memory.watched(lambda: [os.getpid()], seconds=0.001) as peak:
        held = np.ones(60_000_000, np.uint8)
        before = len(peak.samples)
        while len(peak.samples) < before + 2:
            assert held[-1]
        del held
    assert 50e6 < peak.more < 120e6


def test_pages_of_files_count_as_memory(tmp_path: Path) -> None:
    np.ones(60_000_000, np.uint8).tofile(tmp_path / "mapped")
    with memory.watched(lambda: [os.getpid()], seconds=0.001) as peak:
        held = np.memmap(tmp_path / "mapped", np.uint8, "r")
        assert held[::4096].sum() > 0
        before = len(peak.samples)
        while len(peak.samples) < before + 2:
            assert held[-1]
        del held
    assert 50e6 < peak.more_files <= peak.more + 5e6 < 120e6


@pytest.mark.parametrize("side", [servers.plain, servers.ours])
def test_the_file_is_read_before_each_start_of_either_side(
    side: Any, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def start(*_: object, **__: object) -> None:
        read.append(characters() - before)
        raise NotServed("it is not started here")

    monkeypatch.setattr(servers.subprocess, "Popen", start)
    monkeypatch.setattr(servers, "running_gateway", start)
    before = characters()
    with pytest.raises(NotServed, match="not started here"), side(generated, tmp_path):
        pass
    assert read[0] >= generated.stat().st_size


def characters() -> int:
    """How much this process has read so far."""
    return int(Path("/proc/self/io").read_text().partition("rchar: ")[2].split()[0])


@pytest.mark.parametrize(
    ("values", "said"),
    [({"first": 1.0, "first_ready": 6.0}, "yes"), ({"first": 1.0, "first_ready": 6.1}, "no"), ({}, "not measured")],
)
def test_a_row_is_reached_when_each_of_its_figures_is(values: dict[str, float], said: str) -> None:
    assert table.judged(table.ROWS[0], table.Side(values)) == said


def test_more_is_better_where_it_is() -> None:
    row = next(row for row in table.ROWS if row.figures[-1].key == "throughput")
    assert table.judged(row, table.Side({"small": 1.0, "throughput": 399.0})) == "no"
    assert table.judged(row, table.Side({"small": 1.0, "throughput": 401.0})) == "yes"


def test_what_cannot_be_measured_is_said_below_the_table() -> None:
    plain, ours = table.Side(), table.Side({"gene": 4.0})
    with ours.attempt("gene set"):
        raise NotServed("no such route")
    lines = list(table.lines(table.filled({"large": 5, "little": 2, "users": 3}), plain, ours))
    assert lines[-1] == "[1] not measured: no such route"
    assert next(line for line in lines if line.startswith("mean of")).endswith("  not measured")
    assert "[1]" not in next(line for line in lines if line.startswith("one gene"))


REACHED = {
    each.key: each.goal or 3.0 for row in table.filled({"large": 5, "little": 2, "users": 3}) for each in row.figures
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"million_open": None, "million_gene": None, "later_cold": None, "large_pages": None}, []),
        ({"gene": 8.1}, ["one gene: 8.1 ms, to reach ≤ 8 ms"]),
        ({"million_gene": 61.0}, [": 61 ms, to reach ≤ 60 ms"]),
        ({"throughput": 399.0, "users_answered": 2}, ["399 MB/s, to reach ≥ 400 MB/s", "2 of 3, to reach ≥ 3 of 3"]),
        ({"users_memory_after": 3.1}, ["their total memory after that: 3.1 GB, to reach ≤ 3 GB"]),
        ({"large": None}, ["differential expression, 5 against 5 cells: not measured, to reach ≤ 0.6 s"]),
    ],
)
def test_what_is_missed_is_said_in_the_end_and_by_the_exit_status(
    changed: dict[str, float | None], said: list[str], generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas = tmp_path / data.ATLAS.name
    shutil.copy(generated, atlas)
    monkeypatch.setattr(data, "generated", lambda _: atlas)
    monkeypatch.setattr(data, "real", lambda: atlas)
    values = {key: value for key, value in {**REACHED, **changed}.items() if value is not None}
    monkeypatch.setattr(viewer.sides, "our_side", lambda _: table.Side(values))
    monkeypatch.setattr(viewer.sides, "plain_side", lambda _: table.Side())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = viewer.main(["--build", str(tmp_path), "--users", "3", "--cells", "10", "--genes", "10"])
    _, kept, missed = printed.getvalue().partition(f"kept in {tmp_path / 'viewer.json'}\n")
    assert kept
    assert status == bool(said)
    assert len(missed.splitlines()) == len(said)
    for line, part in zip(missed.splitlines(), said, strict=True):
        assert line.startswith("MISSED  ")
        assert line.endswith(part)


def test_the_row_of_a_million_cells_is_taken_from_when_it_was_run(tmp_path: Path) -> None:
    rows = [row for row in table.filled({"large": 5, "little": 2, "users": 3}) if "million" in row.figures[0].key]
    measured = table.Side({"million_open": 0.75, "million_first": 3.0})
    killed = table.Side(notes={"million_large": "it was killed"})
    record = {"machine": {"words": "a large machine", "when": "yesterday"}}
    table.keep(tmp_path / "million.json", rows, killed, measured, record)
    plain, ours = table.Side(), table.Side()
    viewer.add_million(plain, ours, tmp_path / "million.json")
    assert ours.values == measured.values
    assert plain == killed
    assert "a large machine" in ours.notes["million_open"]


def test_a_row_that_was_not_run_says_how_to_run_it(tmp_path: Path) -> None:
    ours = table.Side()
    viewer.add_million(table.Side(), ours, tmp_path / "million.json")
    assert all("make bench-million" in ours.notes[key] for key in ("million_open", "million_first"))


# --- a whole short run ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="run")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the quick form says on a tiny dataset, and where it keeps its figures."""
    place = tmp_path_factory.mktemp("bench")
    words = f"--quick --cells {SIZE.cells} --genes {SIZE.genes} --repeats 1 --users 2".split()
    command = [sys.executable, PROGRAM, *words, "--build", place, "--picture", place / "bars.svg"]
    done = subprocess.run(
        command, env={**os.environ, "XDG_CACHE_HOME": str(place)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, place


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_form_prints_every_row(run: tuple[str, Path]) -> None:
    for row in table.filled({"large": SIZE.cells // 2, "little": SIZE.cells // 4, "users": 2}):
        assert sum(line.startswith(row.what) for line in run[0].splitlines()) == 1, row.what


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("side", ["plain", "ours"])
def test_every_figure_is_measured_or_says_why_not(side: str, run: tuple[str, Path]) -> None:
    kept = json.loads((run[1] / "viewer.json").read_text())
    figures: list[dict[str, Any]] = [figure for row in kept["rows"] for figure in row["figures"]]
    missing = {each["key"] for each in figures if each[side] is None}
    only_ours = {"later_cold", "gene_direct", "small", "throughput"}
    assert missing == {each["key"] for each in figures if each["key"].startswith("million")} | (
        only_ours if side == "plain" else set()
    )
    assert not any("not measured" in (each["note"][side] or "") for each in figures)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_picture_names_both_sides(run: tuple[str, Path]) -> None:
    drawn = (run[1] / "bars.svg").read_text()
    for words in ("plain cellxgene", "cxg-proxy", "first opening", "2 users, in total"):
        assert words in drawn


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_picture_is_drawn_of_figures_that_are_missing(run: tuple[str, Path], tmp_path: Path) -> None:
    kept = json.loads((run[1] / "viewer.json").read_text())
    for row in kept["rows"]:
        for figure in row["figures"]:
            figure["plain"] = None
    (tmp_path / "some.json").write_text(json.dumps(kept))
    picture.draw(tmp_path / "some.json", tmp_path / "some.svg")
    assert (tmp_path / "some.svg").read_text().count("not measured") == sum(len(bars) for bars in picture.BARS.values())


def test_the_table_of_labels_is_printed_and_says_that_the_folder_stayed_small(tmp_path: Path) -> None:
    command = [sys.executable, PROGRAM.with_name("labels.py"), "--saves", "3", "--cells", "1000", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = ("save", "read", "save, plain cellxgene", "read, plain cellxgene", "list the versions", "read a version")
    assert [row for row in rows if not re.search(rf"^{row} {{2,}}[\d ]+$", done.stdout, re.MULTILINE)] == []
    assert "3 versions; the folder was never larger than" in done.stdout
    assert list(tmp_path.iterdir()) == []
