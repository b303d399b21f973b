"""Data for the benchmarks: datasets of any size, seeded, as sparse and clustered as an atlas, in bounded memory.

`python benchmarks/data.py atlas.h5ad --cells 100000 --genes 20000` writes one by hand.

Counts follow a Poisson distribution, as reads do: a gene's first read arrives after an exponential waiting time, and
the other reads arrive in the rest of the cell's depth. So only the waiting times are drawn for every cell and gene, a
block of cells at a time, and each block gets exactly its share of the values. X holds ln(1 + counts per 10,000).
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

VERSION = 1  # files of other versions are generated again
SEED = 20_260_101
DENSITY = 0.05  # share of the values that are not zero
CLUSTERS = 15
MARKERS = 0.01  # share of the genes that mark one cluster
BLOCK = 512  # cells
PLACES = {"tissue": 8, "assay": 3, "disease": 4, "sex": 2, "development_stage": 10, "donor_id": 40}
BASES = np.frombuffer(b"ACGT", dtype="S1")


@dataclass(frozen=True)
class Size:
    """The size of a generated dataset."""

    cells: int
    genes: int

    @property
    def values(self) -> int:
        """The exact number of values that are not zero."""
        return int(self.cells * self.genes * DENSITY)

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"cells-{self.cells}-genes-{self.genes}.h5ad"


ATLAS = Size(100_000, 20_000)
MILLION = Size(1_000_000, 20_000)


def folder() -> Path:
    """Return the folder of generated files, which stay for the next run: outside the checkout, by generator version."""
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = Path(above, "cxg-proxy-bench", f"data-{VERSION}")
    place.mkdir(parents=True, exist_ok=True)
    return place


def generated(size: Size) -> Path:
    """Return the file of this size, and generate it unless it exists."""
    file = folder() / size.name
    if not file.exists():
        print(f"making {file} ({size.values * 8 / 1e9:.1f} GB, once)", flush=True)
        write(size, file)
    return file


def warm(file: Path) -> None:
    """Read a file into the page cache, since `cxg-proxy prepare` for all users drops it from there."""
    with file.open("rb", buffering=0) as opened:
        while opened.read(1 << 24):
            pass


def real() -> Path:
    """Return the file of 700 real blood cells, which come with scanpy."""
    file = folder() / "pbmc68k_reduced.h5ad"
    if not file.exists():
        import scanpy  # noqa: PLC0415 - takes seconds

        beside = file.with_suffix(f".{os.getpid()}.part")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the old format of scanpy's own file
            scanpy.datasets.pbmc68k_reduced().write_h5ad(beside)
        beside.replace(file)
    return file


def write(size: Size, file: Path) -> None:
    """Write a dataset of this size; under its name, the file is always complete."""
    random = np.random.default_rng(SEED)
    clusters = random.choice(CLUSTERS, size.cells, p=_shares(random)).astype(np.int8)
    beside = file.with_suffix(f".{os.getpid()}.part")
    try:
        _write_annotations(random, size, clusters, beside)
        with h5py.File(beside, "r+") as opened:
            _write_matrix(random, size, clusters, opened)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _shares(random: np.random.Generator) -> NDArray[np.float64]:
    """Draw the share of the cells in each cluster: a few large clusters, and rare cells."""
    shares = random.dirichlet(np.full(CLUSTERS, 2.0)) + 0.005
    return shares / shares.sum()


def shape_of(file: Path) -> tuple[int, int]:
    """Return the numbers of cells and genes in a generated file."""
    with h5py.File(file) as opened:
        cells, genes = opened["X"].attrs["shape"]
    return int(cells), int(genes)


def genes_of(file: Path, many: int, seed: int = 1) -> list[str]:
    """Return the names of some genes, chosen at random without repetition."""
    with h5py.File(file) as opened:
        names = opened["var"][opened["var"].attrs["_index"]].asstr()[:]
    return [str(name) for name in np.random.default_rng(seed).choice(names, min(many, len(names)), replace=False)]


def groups_of(file: Path, each: int) -> tuple[list[int], list[int]]:
    """Return two groups of `each` cells: one from the first cell types, one from the last."""
    with h5py.File(file) as opened:
        order = np.argsort(opened["obs"]["cell_type"]["codes"][:], kind="stable")
    first, last = order[:each], order[len(order) - each :]
    return sorted(first.tolist()), sorted(last.tolist())


# --- all but the matrix -------------------------------------------------------------------------------------------


def _write_annotations(random: np.random.Generator, size: Size, clusters: NDArray[np.int8], file: Path) -> None:
    import anndata  # noqa: PLC0415 - takes a second, and most runs find their file

    obs = _cells(random, size, clusters)
    var = pd.DataFrame(
        {"highly_variable": random.random(size.genes) < 0.1, "mean": random.gamma(1, 1, size.genes)},
        index=[f"GENE{number:05}" for number in range(size.genes)],
    )
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in random.integers(30, 226, (CLUSTERS, 3))]
    anndata.AnnData(
        obs=obs, var=var, obsm={"X_umap": _embedding(random, clusters)}, uns={"cell_type_colors": colours}
    ).write_h5ad(file)


def _cells(random: np.random.Generator, size: Size, clusters: NDArray[np.int8]) -> pd.DataFrame:
    """Draw the columns that an atlas has: several categories, and some numbers."""
    names = [f"cell type {number}" for number in range(CLUSTERS)]
    columns: dict[str, object] = {"cell_type": pd.Categorical.from_codes(clusters, categories=names)}
    for name, many in PLACES.items():
        codes = random.choice(many, size.cells, p=random.dirichlet(np.full(many, 3.0)))
        columns[name] = pd.Categorical.from_codes(codes, categories=[f"{name} {number}" for number in range(many)])
    columns["leiden"] = pd.Categorical.from_codes(clusters, categories=[str(number) for number in range(CLUSTERS)])
    depths = random.lognormal(7.5, 0.4, size.cells).astype(np.float32)
    columns |= {"total_counts": depths, "n_genes": (depths**0.9).astype(np.int32)}
    columns["pct_counts_mt"] = random.gamma(2, 2, size.cells).astype(np.float32)
    columns["doublet_score"] = random.beta(1, 12, size.cells)
    columns["age"] = random.integers(20, 90, size.cells).astype(np.int32)
    columns["is_primary_data"] = random.random(size.cells) < 0.8
    return pd.DataFrame(columns, index=_barcodes(size.cells))


def _barcodes(cells: int) -> NDArray[np.str_]:
    """Make unique barcodes of sixteen letters: an odd factor permutes the numbers below 4 ** 16."""
    numbers = (np.arange(cells, dtype=np.uint64) * np.uint64(2_654_435_761)) % np.uint64(4**16)
    digits = (numbers[:, None] >> np.arange(0, 32, 2, dtype=np.uint64)) & np.uint64(3)
    return np.char.add(BASES[digits.astype(np.intp)].view("S16")[:, 0].astype(str), "-1")


def _embedding(random: np.random.Generator, clusters: NDArray[np.int8]) -> NDArray[np.float32]:
    """Draw one cloud of points for each cluster, stretched and rotated."""
    angles = np.linspace(0, 2 * np.pi, CLUSTERS, endpoint=False)
    centres = np.stack([np.cos(angles), np.sin(angles)], axis=1) * random.uniform(4, 11, (CLUSTERS, 1))
    shapes = random.normal(0, 0.6, (CLUSTERS, 2, 2))
    clouds = random.standard_normal((len(clusters), 2), dtype=np.float32)
    return (centres[clusters] + np.einsum("nij,nj->ni", shapes[clusters], clouds)).astype(np.float32)


# --- the matrix ---------------------------------------------------------------------------------------------------


def _write_matrix(random: np.random.Generator, size: Size, clusters: NDArray[np.int8], file: h5py.File) -> None:
    """Write X in rows (CSR) in the layout of `write_h5ad`: float32 values, int32 indices, not compressed."""
    if "X" in file:
        del file["X"]
    group = file.create_group("X")
    group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (size.cells, size.genes)})
    data = group.create_dataset("data", (size.values,), np.float32)
    indices = group.create_dataset("indices", (size.values,), np.int32)
    rates, ends = _rates(random, size), np.zeros(size.cells + 1, np.int64)
    depths = random.lognormal(0, 0.4, size.cells).astype(np.float32)
    for begin in range(0, size.cells, BLOCK):
        end = min(begin + BLOCK, size.cells)
        first, last = (int(size.values * cell / size.cells) for cell in (begin, end))
        expected = rates[clusters[begin:end]] * depths[begin:end, None]
        rows, columns, values = _block(random, expected, last - first)
        data[first:last], indices[first:last] = values, columns
        ends[begin + 1 : end + 1] = first + np.cumsum(np.bincount(rows, minlength=end - begin))
    group.create_dataset("indptr", data=ends.astype(np.int32) if size.values < 2**31 else ends)


def _rates(random: np.random.Generator, size: Size) -> NDArray[np.float32]:
    """Draw the expected reads of each gene in a cell of each cluster: few common genes, most rare, and markers."""
    rates = np.exp(random.normal(0, 1.8, size.genes) + random.normal(0, 0.3, (CLUSTERS, size.genes)))
    for cluster in range(CLUSTERS):
        markers = random.choice(size.genes, max(1, int(size.genes * MARKERS)), replace=False)
        rates[cluster, markers] *= random.uniform(8, 40, len(markers))
    low, high = 1e-9, 1e3  # a bisection for the scale that gives the density
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if np.mean(-np.expm1(-rates * middle)) > DENSITY else (middle, high)
    return np.maximum(rates * low, 1e-12).astype(np.float32)


def _block(
    random: np.random.Generator, expected: NDArray[np.float32], many: int
) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[np.float32]]:
    """Draw rows, columns and values of exactly `many` non-zero values, row by row."""
    waits = random.standard_exponential(expected.shape, dtype=np.float32)
    waits /= expected  # now in units of the whole depth
    seen = np.flatnonzero(waits < 2.0)
    if len(seen) < many:
        seen = np.arange(waits.size)
    waits = waits.ravel()[seen]
    order = np.argpartition(waits, many - 1)[:many] if many else np.zeros(0, np.intp)
    order.sort()
    last = waits[order].max(initial=0.0)  # the depth at which the block has exactly `many` values
    reads = 1 + random.poisson(expected.ravel()[seen[order]] * (last - waits[order]))
    rows, columns = np.divmod(seen[order], expected.shape[1])
    depths = np.bincount(rows, reads, len(expected))
    return rows, columns.astype(np.int32), np.log1p(1e4 * reads / depths[rows]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a generated dataset.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--cells", type=int, default=ATLAS.cells)
    parser.add_argument("--genes", type=int, default=ATLAS.genes)
    said = parser.parse_args()
    write(Size(said.cells, said.genes), said.file)


if __name__ == "__main__":
    main()
