"""A store's matrix never becomes a viewer's own memory: neither by a copy, nor by pages that stay mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import memory
import servers
from browser import comparison
from cxg_proxy.viewer.compute import diffexp
from cxg_proxy.viewer.store import matrix
from datasets import drawn

CELLS, GENES = 20_000, 10_000
VALUES_BYTES = CELLS * GENES // 10 * 8  # of X as a store has it: a tenth of all values, each with its cell's number


def files() -> int:
    """The bytes of mapped files that count as this process's memory."""
    return memory.of([os.getpid()]).files


def held(folder: Path, kind: str) -> matrix.Matrix:
    """A mapped matrix of 64 MB."""
    with (folder / kind).open("wb") as file:
        for number in range(64):
            file.write(np.full(2**18, number, np.float32).tobytes())
    values = np.memmap(folder / kind, np.float32, "r")
    if kind == "dense":
        return matrix.Dense(values.reshape((2**14, 1024), order="F"))
    np.tile(np.arange(2**14, dtype=np.int32), 1024).tofile(folder / "cells")
    cells = np.memmap(folder / "cells", np.int32, "r")
    return matrix.Sparse((2**14, 1024), np.arange(1025) * 2**14, cells, values)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_what_was_looked_at_is_given_back_and_can_be_looked_at_again(kind: str, tmp_path: Path) -> None:
    there = held(tmp_path, kind)
    group = np.arange(2**14) % 2 == 0
    genes = np.arange(0, 1024, 3)
    diffexp.compare(there, "normal", group, ~group, 5, 0.0)  # what is compiled is mapped, too
    before = files()
    for _ in range(2):
        compared = diffexp.compare(there, "normal", group, ~group, 5, 0.0)
        assert len(compared["positive"]) == 5
        assert float(there.mean(genes)[0, 0]) == pytest.approx(np.mean(genes // 16))
        assert there.columns(np.array([1023]))[5, 0] == 63
        assert files() - before < 2_000_000
    assert values_of(there).sum(dtype=np.float64) == 2**18 * sum(range(64))
    assert files() - before > 50_000_000  # so it would have been seen
    there.give_back(0, 1024)
    assert files() - before < 2_000_000


def values_of(there: matrix.Matrix) -> Any:
    return there.values if isinstance(there, matrix.Dense) else there.data


def test_a_matrix_in_memory_keeps_what_it_holds(tmp_path: Path) -> None:
    values = np.ones(2**16, np.float32)
    values.tofile(tmp_path / "values")
    copied = np.memmap(tmp_path / "values", np.float32, "c")
    copied[:] = 2
    for array, expected in ((values, 1), (copied, 2), (np.empty(0, np.float32), 0)):
        view = array.view()
        view.flags.writeable = False
        matrix.give_back(view)
        assert (array == expected).all()
    there = matrix.of(sparse.csc_matrix(np.ones((4, 3))))
    there.give_back(0, 3)
    assert there.columns(np.arange(3)).sum() == 12


@pytest.mark.hazard(15)
@pytest.mark.timeout(180)
def test_nothing_that_a_viewer_is_asked_makes_the_matrix_its_own_memory(short: Path) -> None:
    dataset = drawn(short / "large.h5ad", CELLS, GENES, "csr")
    cells = range(CELLS)
    with servers.ours(dataset, short / "home") as server, server.browser() as browser:
        opened = browser.open(server.viewer)
        browser.gene(server.viewer, opened.index, "0")  # waits until it is prepared
        browser.compare(server.viewer, comparison(cells[:5], cells[5:10]))
        server.settle()
        pids = [server.worker_pid()]
        before = memory.of(pids)
        with memory.watched(lambda: pids, seconds=0.01) as peak:
            browser.open(server.viewer)
            for gene in range(1, 200):
                browser.gene(server.viewer, opened.index, str(gene))
            browser.gene_set(server.viewer, opened.index, [str(gene) for gene in range(200, 600)])
            for _ in range(2):
                browser.compare(server.viewer, comparison(cells[: CELLS // 2], cells[CELLS // 2 :]))
        after = memory.of(pids)
    assert before.total < VALUES_BYTES  # which it would exceed by the matrix alone
    assert peak.total - before.total < VALUES_BYTES // 3
    assert after.private - before.private < VALUES_BYTES // 5
    assert after.total - before.total < VALUES_BYTES // 5
