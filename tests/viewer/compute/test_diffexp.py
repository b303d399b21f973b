"""The statistics are cellxgene's: by its own functions in float64, by SciPy's where the two agree, and in its order."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from cxg_proxy.viewer.cellxgene.admission import Cancelled
from cxg_proxy.viewer.compute import diffexp
from cxg_proxy.viewer.store import matrix

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # cellxgene's import of anndata
    from server.common.compute import diffexp_generic as theirs

# cellxgene lets NumPy warn where it divides by 0 and where numbers grow too large.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

FORMS: dict[str, Callable[[Any], Any]] = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "by rows": np.ascontiguousarray,
    "by columns": np.asfortranarray,
}
TYPES = ["float32", "float64", "int32", "int64", "uint32"]
forms, types = st.sampled_from(sorted(FORMS)), st.sampled_from(TYPES)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, cells: int, genes: int, dtype: str = "float64") -> Any:
    """Cells x genes of which most values are 0, each gene of a size of its own."""
    random = np.random.default_rng(seed)
    there = random.random((cells, genes)) < random.random(genes)
    return (random.gamma(2, random.random(genes) * 40, (cells, genes)) * there).astype(dtype)


def masks(seed: int, cells: int, most: int | None = None) -> tuple[Any, Any]:
    """Two groups of any size, which may overlap."""
    random = np.random.default_rng(seed + 1)
    pair = []
    for _ in range(2):
        mask = np.zeros(cells, bool)
        mask[random.permutation(cells)[: random.integers(1, (most or cells) + 1)]] = True
        pair.append(mask)
    return pair[0], pair[1]


def by_cellxgene(values: Any, distribution: str, mask: Any) -> tuple[Any, Any, int]:
    """cellxgene's mean, variance and size of a group, in float64."""
    return theirs.mean_var_n(values.astype(np.float64)[mask], distribution)


def assert_same(ours: diffexp.Group, expected: tuple[Any, Any, int]) -> None:
    assert ours.cells == expected[2]
    np.testing.assert_allclose(ours.mean, expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.variance, expected[1], rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(seeds, st.integers(2, 60), forms, types, st.sampled_from(["normal", "count"]))
def test_means_and_variances_are_cellxgenes(seed: int, cells: int, form: str, dtype: str, distribution: str) -> None:
    values = drawn(seed, cells, 1 + seed % 30, dtype)
    a, b = masks(seed, cells)
    ours = diffexp.groups(matrix.of(FORMS[form](values)), distribution, a, b, cores=2)
    for group, mask in zip(ours, (a, b), strict=True):
        assert_same(group, by_cellxgene(FORMS[form](values), distribution, mask))


# The square of 2^600 is beyond float64; a mean of such values and of small ones is exact all the same.
ODD = [np.nan, np.inf, -np.inf, -1.0, -2.0, 2.0**600, 0.0, 3.0]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.lists(st.sampled_from(ODD), min_size=3, max_size=3), min_size=3, max_size=12),
    forms,
    st.sampled_from(["normal", "count"]),
    seeds,
)
def test_what_is_no_number_counts_as_cellxgene_counts_it(
    rows: list[list[float]], form: str, distribution: str, seed: int
) -> None:
    # With NaN among infinities of both signs it depends on their order whether NumPy complains in a dense matrix.
    odd = [np.isnan, np.isposinf, np.isneginf]
    assume(form in ("csr", "csc") or not np.all([kind(rows).any(axis=0) for kind in odd], axis=0).any())
    values = FORMS[form](np.array(rows))
    a, b = masks(seed, len(rows))
    ours = diffexp.groups(matrix.of(values), distribution, a, b, cores=1)
    for group, mask in zip(ours, (a, b), strict=True):
        assert_same(group, by_cellxgene(values, distribution, mask))


@given(seeds, st.integers(1, 40), st.integers(1, 45), st.floats(0, 2))
@example(27, 2, 1, 0.0)
def test_genes_are_ranked_as_cellxgene_ranks_them(seed: int, genes: int, top_n: int, cutoff: float) -> None:
    random = np.random.default_rng(seed)
    in_a, in_b = random.integers(1, 300, 2).tolist()
    a, b = (
        diffexp.Group(size, random.normal(0, 1, genes), random.random(genes) * (random.random(genes) < 0.8))
        for size in (in_a, in_b)
    )
    ours = diffexp.ranked(a, b, top_n, cutoff)
    if top_n >= genes:  # where cellxgene fails, or fails to give all of them
        for side in ("positive", "negative"):
            assert sorted(row[0] for row in ours[side]) == list(range(genes))
        return
    expected = theirs.diffexp_ttest_from_mean_var(a.mean, a.variance, in_a, b.mean, b.variance, in_b, top_n, cutoff)
    # With a group of one cell there may be no p, and what is no number equals nothing, not even itself.
    np.testing.assert_equal(ours, {side: [[v.item() for v in row] for row in rows] for side, rows in expected.items()})


def test_a_gene_that_is_the_same_in_every_cell_stands_between_those_that_differ() -> None:
    variance = np.array([1.0, 0.0, 1.0])
    a, b = (diffexp.Group(10, np.array(mean), variance) for mean in ([1.0, 2.0, 5.0], [5.0, 2.0, 1.0]))
    ours = diffexp.ranked(a, b, 3, 0.0)
    assert [row[0] for row in ours["positive"]] == [2, 1, 0]
    assert [row[0] for row in ours["negative"]] == [0, 1, 2]
    assert ours["positive"][1] == [1, 0.0, 1.0, 1.0]


@given(seeds, st.integers(2, 30), st.integers(3, 20))
def test_of_groups_of_equal_size_it_is_scipys_test(seed: int, size: int, genes: int) -> None:
    values = drawn(seed, 2 * size, genes)
    a = np.arange(2 * size) < size
    result = diffexp.compare(matrix.of(sparse.csc_matrix(values)), "normal", a, ~a, genes, 0.0, cores=1)
    with np.errstate(all="ignore"):
        expected = stats.ttest_ind(values[a], values[~a], equal_var=False).pvalue
    for gene, fold, p, adjusted in result["positive"]:
        assert fold == pytest.approx(values[a, gene].mean() - values[~a, gene].mean(), rel=1e-6, abs=1e-12)
        if np.isfinite(expected[gene]):
            assert p == pytest.approx(expected[gene], rel=1e-6, abs=1e-300)
        assert adjusted == min(p * genes, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("first", "second"), [(400, 400), (30, 700), (1, 900), (2, 2)])
def test_it_finds_the_genes_cellxgene_finds(form: str, dtype: str, first: int, second: int) -> None:
    values = drawn(5, 1000, 300).astype(dtype)
    order = np.random.default_rng(2).permutation(1000)
    a, b = np.zeros((2, 1000), bool)
    a[order[:first]], b[order[-second:]] = True, True
    held = FORMS[form](values)
    ours = diffexp.compare(matrix.of(held), "count", a, b, 20, 0.01)
    groups = [theirs.mean_var_n(held[mask], "count") for mask in (a, b)]
    expected = theirs.diffexp_ttest_from_mean_var(*groups[0], *groups[1], 20, 0.01)
    rounding = 1e-9 if dtype == "float64" else 1e-3
    for side in ("positive", "negative"):
        assert [row[0] for row in ours[side]] == [row[0] for row in expected[side]]
        np.testing.assert_allclose(np.array(ours[side], float), np.array(expected[side], float), rtol=rounding)


def test_it_is_the_same_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffexp, "_BLOCK_VALUES", 500)
    held = matrix.of(sparse.csc_matrix(drawn(1, 300, 200)))
    a, b = masks(1, 300)
    results = [diffexp.compare(held, "normal", a, b, 50, 0.01, cores=cores) for cores in (1, 2, 7, None)]
    assert results[1:] == results[:1] * 3


@pytest.mark.parametrize("form", FORMS)
def test_it_stops_soon_after_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(diffexp, "_BLOCK_VALUES", 500)
    held = matrix.of(FORMS[form](drawn(1, 300, 200)))
    a, b = masks(1, 300)
    asked = []

    def cancelled() -> bool:
        asked.append(threading.current_thread())
        return len(asked) > 3

    with pytest.raises(Cancelled):
        diffexp.compare(held, "normal", a, b, 5, 0.01, cancelled=cancelled, cores=2)
    assert not any(thread.is_alive() for thread in asked)
    asked.clear()
    asked_whole = []
    diffexp.compare(held, "normal", a, b, 5, 0.01, cancelled=lambda: bool(asked_whole.append(1)), cores=2)
    assert len(asked_whole) > 10


def test_a_matrix_that_names_a_cell_that_is_not_there_is_refused() -> None:
    starts, values = np.array([0, 2]), np.ones(2, np.float32)
    mask = np.array([True, True])
    for cells in ([0, 2], [0, -1], [1, 1], [0, 2**31 - 1]):
        wild = matrix.Sparse((2, 1), starts, np.array(cells, np.int32), values)
        groups = (mask, mask) if cells != [1, 1] else (np.array([False, True]), mask)
        with pytest.raises(matrix.Damaged):
            diffexp.compare(wild, "normal", *groups, 1, 0.0)
