"""Files in which something is of another kind than AnnData says: each is explained, or shown without that."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cxg_proxy.errors import Problem
from cxg_proxy.viewer.dataset import metadata
from cxg_proxy.viewer.dataset.expression import in_memory
from cxg_proxy.viewer.jobs.annotate import enrich
from cxg_proxy.viewer.jobs.summarize import describe
from cxg_proxy.viewer.source import cell_names, h5ad
from cxg_proxy.viewer.store import build, eviction, store
from cxg_proxy.viewer.store.origin import Origin


def replaced_by_a_group(parent: Any, name: str) -> None:
    parent.create_group(name)


def replaced_by_groups(parent: Any, name: str) -> None:
    for inner in ("values", "codes", "categories", "mask", "data", "indices", "indptr"):
        parent.create_group(f"{name}/{inner}")


def replaced_by_a_number(parent: Any, name: str) -> None:
    parent[name] = 3


def replaced_by_numbers(parent: Any, name: str) -> None:
    parent[name] = np.arange(4.0)


def replaced_by_text(parent: Any, name: str) -> None:
    parent[name] = "text"


def replaced_by_nothing(parent: Any, name: str) -> None:
    parent[name] = h5py.Empty("f4")


def replaced_by_a_table(parent: Any, name: str) -> None:
    parent[name] = np.zeros(6, [("a", "S3"), ("b", "<f4", (2,))])


def replaced_by_a_link_to_nowhere(parent: Any, name: str) -> None:
    parent[name] = h5py.SoftLink("/nowhere")


CHANGES: list[Callable[[Any, str], None]] = [
    replaced_by_a_group,
    replaced_by_groups,
    replaced_by_a_number,
    replaced_by_numbers,
    replaced_by_text,
    replaced_by_nothing,
    replaced_by_a_table,
    replaced_by_a_link_to_nowhere,
    lambda *_: None,  # removed
]
VALUES: list[Any] = ["text", 3, h5py.Empty("f4")]


def whole(path: Path, kind: str) -> Path:
    data = anndata.AnnData(
        X=np.ones((6, 4), np.float32) if kind == "dense" else sparse.csr_matrix(np.eye(6, 4, dtype=np.float32)),
        obs=pd.DataFrame(
            {"kind": pd.Categorical(list("abcabc")), "n": np.arange(6), "maybe": pd.array([1, None] * 3, "Int64")},
            index=[f"c{number}" for number in range(6)],
        ),
        obsm={"X_umap": np.arange(12.0).reshape(6, 2)},
        uns={"kind_colors": np.array(["#ff0000"] * 3)},
    )
    data.write_h5ad(path)
    return path


def older(path: Path) -> Path:
    """A file as AnnData before 0.7 wrote it."""
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((6, 4), np.float32)
        file["obs"] = np.array(
            [(b"c%d" % n, n, n % 2) for n in range(6)], [("index", "S3"), ("n", "<i8"), ("kind", "i1")]
        )
        file["var"] = np.array([(b"g%d" % n,) for n in range(4)], [("index", "S3")])
        file["obsm"] = np.zeros(6, [("X_umap", "<f4", (2,))])
        file["uns/kind_categories"] = np.array([b"a", b"b"])
    return path


def nodes(path: Path) -> list[tuple[str, str | None]]:
    """Return every group, dataset and attribute of a file, as its path and the name of the attribute, if it is one."""
    found: list[tuple[str, str | None]] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: found.extend([(name, None), *((name, each) for each in node.attrs)]))
    return found


def broken(path: Path, copy: Path, below: str) -> Iterator[str]:
    """Change one thing of the file after the other, each in a fresh copy."""
    content = path.read_bytes()
    for node, attribute in (each for each in nodes(path) if each[0].startswith(below)):
        for change in VALUES if attribute else CHANGES:
            copy.write_bytes(content)
            with h5py.File(copy, "r+") as file:
                if attribute:
                    file[node].attrs[attribute] = change
                else:
                    parent, _, name = node.rpartition("/")
                    del file[node]
                    change(file[parent or "/"], name)
            yield f"{node} {attribute or ''} {getattr(change, '__name__', change)}"


def stored(path: Path, into: Path) -> None:
    """Estimate and build a store of the file, and remove it."""
    origin = Origin.of(str(path))
    eviction.estimate(origin)
    into.mkdir()
    try:
        build.build(origin, into, memory=1 << 20, report=lambda _: None, cancelled=lambda: False)
    finally:
        for each in sorted(into.rglob("*"), reverse=True):
            each.rmdir() if each.is_dir() else each.unlink()
        into.rmdir()


@pytest.mark.parametrize(("kind", "below"), [("older", ""), ("dense", "X"), ("sparse", "")])
def test_whatever_is_of_another_kind_is_explained(
    kind: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of stores are built
    path = older(tmp_path / "a.h5ad") if kind == "older" else whole(tmp_path / "a.h5ad", kind)
    copy = tmp_path / "b.h5ad"
    looks: dict[str, Callable[[], object]] = {
        "summary": lambda: describe(str(copy)),
        "metadata": lambda: metadata.read(Origin.of(str(copy))),
        "matrix": lambda: in_memory(Origin.of(str(copy)), lambda _: None),
        "store": lambda: stored(copy, tmp_path / "store"),
        "cells": lambda: cell_names.identifiers(str(copy)),
        "columns": lambda: cell_names.label_columns(str(copy)),
    }
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for change in broken(path, copy, below):
            for name, look in looks.items():
                try:
                    look()
                except Problem:
                    pass
                except Exception as error:  # noqa: BLE001 - whatever it is, it has to be a Problem
                    wrong.append(f"{change}: {name}: {type(error).__name__}: {error}")
            try:
                enrich(str(copy), {"mine": list("xyxyxy")}, {})
            except h5ad.ERRORS:
                pass
            except Exception as error:  # noqa: BLE001 - as above
                wrong.append(f"{change}: copy: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.filterwarnings("ignore:.*non-integer dtype")  # SciPy's, as in cellxgene
@pytest.mark.parametrize("kind", ["<i8", "<u4", "<u8", "<f4", "<f8"])
def test_a_sparse_matrix_may_have_indices_of_every_kind_of_number_that_anndata_reads(kind: str, tmp_path: Path) -> None:
    path = whole(tmp_path / "a.h5ad", "sparse")
    with h5py.File(path, "r+") as file:
        for name in ("indices", "indptr"):
            numbers = file["X"][name][:].astype(kind)
            del file["X"][name]
            file["X"][name] = numbers
    origin, every = Origin.of(str(path)), np.arange(4)
    (tmp_path / "store").mkdir()
    build.build(origin, tmp_path / "store", memory=1 << 20, report=lambda _: None, cancelled=lambda: False)
    built = store.Store.open(tmp_path / "store", origin.fingerprint).matrix
    for matrix in (built, in_memory(origin, lambda _: None).matrix):
        np.testing.assert_array_equal(matrix.columns(every), np.eye(6, 4, dtype=np.float32))
