"""Annotated copies of datasets: makes them by the command that the gateway runs, and reads their content."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pytest
from scipy import sparse

import forking
from cxg_proxy import annotations
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv
from places import CHECKOUT
from viewer_fixtures import cells

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


def started(dataset: Path, where: Path, output: Path, options: Any = None, **popen: Any) -> Any:
    command = [sys.executable, "-m", "cxg_proxy.viewer", "annotate", "--labels", where]
    command += ["--options", json.dumps(options or {}), "--output", output, "--", dataset]
    pipe = subprocess.PIPE
    return forking.popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=CHECKOUT, **popen)


def annotate(dataset: Path, where: Path, output: Path, options: Any = None, **popen: Any) -> list[dict[str, Any]]:
    """Make a copy and return its steps; check that the exit status agrees with the last step."""
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
        warnings.simplefilter("ignore")  # they concern old files
        return anndata.read_h5ad(path)


def content(path: Path) -> dict[str, Any]:
    """Return everything in an HDF5 file, by name: attributes, storage and bytes."""
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


@pytest.fixture(name="rich")
def a_rich_dataset(tmp_path: Path) -> Path:
    """A dataset with an element of every kind."""
    path = tmp_path / "rich cells.h5ad"
    data = cells()
    data.layers["counts"] = sparse.csr_matrix(np.eye(60, 12, dtype=np.float32))
    data.obsp["near"] = sparse.csr_matrix(np.eye(60))
    data.varm["PCs"] = np.ones((12, 3))
    data.raw = data.copy()
    data.uns["deep"] = {"er": {"x": np.arange(3), "text": "ü"}}
    data.write_h5ad(path, compression="gzip")
    return path


@pytest.fixture(name="where")
def a_home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "rich"
