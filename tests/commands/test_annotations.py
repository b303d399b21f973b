"""`cxg-proxy annotations`, as somebody types it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import forking
from cxg_proxy import annotations
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv

START = 1_790_000_000.0
CELLS = tuple(f"c{number}" for number in range(10))
Done = subprocess.CompletedProcess[bytes]


def csv(labels: str) -> bytes:
    return labels_csv(LabelTable("index", CELLS, {"type": tuple(labels), "\x1b[31mred": ("x",) * len(CELLS)})).encode()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def dataset(tmp_path: Path, home: Path) -> Path:
    """A dataset that is not there any more, with three versions of labels and one of gene sets."""
    path = tmp_path / "the pbmc.h5ad"
    where = annotations.directory(home, path)
    for number, labels in enumerate(["TTTTTTTTTT", "TTTTTBBBBB", "TTTBBBBBBB"]):
        annotations.write(where, annotations.LABELS, csv(labels), now=START + 60 * number)
    sets = gene_sets_csv([GeneSet("naive", "", (("CCR7", ""), ("LEF1", ""))), GeneSet("empty")])
    annotations.write(where, annotations.GENE_SETS, sets.encode(), now=START + 600)
    return path


def run(home: Path, *words: str | Path, **environment: str) -> Done:
    command = [sys.executable, "-m", "cxg_proxy", "annotations", *map(str, words), "--home", str(home)]
    return forking.run(command, cwd=Path.cwd(), env={**os.environ, "TZ": "UTC", **environment})


def said(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return done.stdout.decode()


def refused(done: Done, status: int) -> str:
    assert (done.returncode, done.stdout) == (status, b"")
    text = done.stderr.decode()
    assert text.startswith("cxg-proxy annotations: ")
    assert "Traceback" not in text
    return text


def test_list_tells_each_version_when_it_was_saved_and_what_changed(home: Path, dataset: Path) -> None:
    lines = said(run(home, "list", dataset)).splitlines()
    assert str(annotations.directory(home, dataset)) in lines[0]
    assert lines[1].startswith("* 20260921T142320.000Z-gene-sets")
    assert "2 genes in naive" in lines[1]
    assert [("*" in line[:2], line.partition("B  ")[2]) for line in lines[2:5]] == [
        (True, "2 cells in type"),
        (False, "5 cells in type"),
        (False, "10 cells in type, 10 cells in \N{REPLACEMENT CHARACTER}[31mred"),
    ]
    listed = json.loads(said(run(home, "list", dataset, "--json")))
    assert [(each["kind"], each["current"]) for each in listed] == [
        ("gene-sets", True),
        ("labels", True),
        ("labels", False),
        ("labels", False),
    ]


def test_show_tells_how_many_cells_have_each_label_and_how_many_genes_are_in_each_set(
    home: Path, dataset: Path
) -> None:
    text = said(run(home, "show", dataset))
    assert text.index("        7  ████████████████████████  B") < text.index("        3  ██████████                T")
    assert "        2  ████████████████████████  naive" in text
    assert "        0                            empty" in text
    assert "\x1b" not in text
    version = json.loads(said(run(home, "list", dataset, "--json")))[2]["id"]
    older = json.loads(said(run(home, "show", dataset, version[:22], "--json")))
    assert older["labels"]["type"] == {"T": 5, "B": 5}
    assert list(older) == ["labels"]


def test_restore_brings_a_version_back_and_says_how_to_undo_that(home: Path, dataset: Path) -> None:
    where = annotations.directory(home, dataset)
    newest, *_, first = [each for each in annotations.versions(where) if each.kind == "labels"]
    text = said(run(home, "restore", dataset, first.id))
    assert annotations.read(where, annotations.LABELS) == csv("TTTTTTTTTT")
    program, *undo = shlex.split(text.splitlines()[-1].partition(": ")[2])
    assert program == "cxg-proxy"
    subprocess.run([sys.executable, "-m", "cxg_proxy", *undo], check=True, capture_output=True)  # as it is printed
    assert annotations.read(where, annotations.LABELS) == csv("TTTBBBBBBB")
    assert "is the current version already" in said(run(home, "restore", dataset, newest.id))


def test_export_writes_the_file_as_it_is_and_replaces_none_unasked(home: Path, dataset: Path, tmp_path: Path) -> None:
    where = annotations.directory(home, dataset)
    assert run(home, "export", dataset).stdout == annotations.read(where, annotations.LABELS)
    assert run(home, "export", dataset, "--labels").stdout == annotations.read(where, annotations.LABELS)
    assert run(home, "export", dataset, "--labels", "--gene-sets").returncode == 2
    file = tmp_path / "out.csv"
    said(run(home, "export", dataset, "--gene-sets", "-o", file))
    assert file.read_bytes() == annotations.read(where, annotations.GENE_SETS)
    assert "add --force" in refused(run(home, "export", dataset, "-o", file), 2)
    assert file.read_bytes() == annotations.read(where, annotations.GENE_SETS)
    first = annotations.versions(where)[-1]
    said(run(home, "export", dataset, first.id, "-o", file, "--force"))
    assert file.read_bytes() == csv("TTTTTTTTTT")
    assert "leave --gene-sets out" in refused(run(home, "export", dataset, first.id, "--gene-sets"), 1)


@pytest.mark.parametrize("command", ["list", "show", "export"])
def test_a_dataset_without_labels_is_told_with_the_folder_they_would_be_in(
    command: str, home: Path, tmp_path: Path
) -> None:
    text = refused(run(home, command, tmp_path / "other.h5ad"), 1)
    assert str(home) in text
    assert "Was the file moved?" in text
    assert not home.exists()


def test_a_version_that_is_none_or_several_is_told_with_what_to_do(home: Path, dataset: Path) -> None:
    assert "`cxg-proxy annotations list` names them all" in refused(run(home, "show", dataset, "1999"), 1)
    assert "write more of the name" in refused(run(home, "restore", dataset, "2026"), 2)
    assert "No version begins with '../../x'" in refused(run(home, "export", dataset, "../../x"), 1)


def test_what_is_typed_wrongly_is_told_by_the_usage(home: Path, dataset: Path) -> None:
    for words in ([], ["lsit", dataset], ["restore", dataset]):
        done = run(home, *words)
        assert done.returncode == 2
        assert b"usage: cxg-proxy annotations" in done.stderr
    assert b"cxg-proxy annotations restore pbmc.h5ad" in run(home, "--help").stdout
    assert b"cxg-proxy annotations" in subprocess.check_output([sys.executable, "-m", "cxg_proxy", "--help"])


def test_labels_that_nobody_can_read_can_still_be_listed_and_exported(home: Path, dataset: Path) -> None:
    where = annotations.directory(home, dataset)
    (where / annotations.LABELS).write_bytes(b"index,a\nc1\n")
    assert "The row of 'c1' has 1 fields" in refused(run(home, "show", dataset), 1)
    assert run(home, "export", dataset).stdout == b"index,a\nc1\n"
    assert said(run(home, "list", dataset))


def test_a_reader_that_goes_early_and_a_terminal_without_unicode_are_no_errors(home: Path, dataset: Path) -> None:
    command = f"{sys.executable} -m cxg_proxy annotations list '{dataset}' --home '{home}' | head -c1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"7" in run(home, "show", dataset, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0").stdout


def test_a_home_that_may_not_be_written_is_told(home: Path, dataset: Path) -> None:
    first = annotations.versions(annotations.directory(home, dataset))[-1]
    (annotations.directory(home, dataset) / annotations.LABELS).unlink()
    (annotations.directory(home, dataset) / annotations.LABELS).mkdir()
    assert "could not be saved" in refused(run(home, "restore", dataset, first.id), 1)
