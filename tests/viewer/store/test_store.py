"""A store is opened in a moment and never trusted: whatever is not as it was written is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

from cxg_proxy.viewer.store import build, store
from cxg_proxy.viewer.store.origin import Origin

SMALL = [store.METADATA, "indptr", store.MANIFEST]
LARGE = ["indices", "data"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "a.h5ad"
    matrix = sparse.random(50, 30, 0.3, "csr", "f4", np.random.default_rng(1))
    anndata.AnnData(matrix, obsm={"X_umap": np.ones((50, 2))}).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def made(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "store"
    folder.mkdir()
    build.build(Origin.of(str(dataset)), folder, memory=1 << 24, report=lambda _: None, cancelled=lambda: False)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return shutil.copytree(made, tmp_path / "store")


def refused(folder: Path, dataset: Path, words: str) -> None:
    with pytest.raises(store.Unusable, match=words):
        store.Store.open(folder, Origin.of(str(dataset)).fingerprint)


def test_a_whole_store_opens_read_only(made: Path, dataset: Path) -> None:
    found = store.Store.open(made, Origin.of(str(dataset)).fingerprint)
    assert (found.shape, found.dtype, found.distribution) == ((50, 30), np.float32, "normal")
    assert (found.folder, found.rest, found.replies) == (made, made / "rest.h5ad", made / "replies")
    assert found.replies.is_dir()
    assert found.bytes == sum((made / name).stat().st_size for name in (*LARGE, store.METADATA, "indptr"))
    with pytest.raises(ValueError, match="read-only"):
        found.matrix.data[0] = 1


def test_a_mapped_store_can_be_removed(folder: Path, dataset: Path) -> None:
    found = store.Store.open(folder, Origin.of(str(dataset)).fingerprint)
    before = found.matrix.columns(np.arange(30))
    shutil.rmtree(folder)
    np.testing.assert_array_equal(found.matrix.columns(np.arange(30)), before)


def test_a_store_of_another_state_of_the_file_is_refused(made: Path) -> None:
    with pytest.raises(store.Unusable, match="another dataset, or of another state"):
        store.Store.open(made, "0" * 40)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_a_file_that_is_missing_is_noticed(folder: Path, dataset: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, dataset, name)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_noticed(folder: Path, dataset: Path, name: str, change: int) -> None:
    os.truncate(folder / name, (folder / name).stat().st_size + change * 8)
    refused(folder, dataset, "is not whole|is damaged")


@pytest.mark.parametrize("name", SMALL)
def test_a_single_flipped_bit_of_a_small_file_is_noticed(folder: Path, dataset: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    # The line's end behind the checksum carries nothing.
    for place in np.random.default_rng(5).integers(0, len(content) - 1, 40):
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << int(place) % 8
        (folder / name).write_bytes(spoilt)
        refused(folder, dataset, "damaged")
    (folder / name).write_bytes(content)
    store.Store.open(folder, Origin.of(str(dataset)).fingerprint)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": store.FORMAT + 1}, "another version"),
        ({"kind": "other"}, "another kind"),
        ({"kind": "dense"}, "another kind"),
        ({"dtype": "|O"}, "another kind"),
        ({"sizes": {}}, "another kind"),
        ({"sizes": None}, "another kind"),
        ({"checksums": {}}, "another kind"),
        ({"more": 1}, "another kind"),
        ({"shape": [51, 30, 1]}, "another kind"),
        ({"shape": [50, 31]}, "does not fit"),
        ({"dtype": "<f8"}, "does not fit"),
    ],
)
def test_a_description_of_another_kind_is_refused(
    folder: Path, dataset: Path, changes: dict[str, object], words: str
) -> None:
    """Even with a right checksum: it may come from another version of this program."""
    _describe(folder, changes)
    refused(folder, dataset, words)


@pytest.mark.parametrize("spoil", [lambda p: p[::-1], lambda p: p + 1, lambda p: np.where(p == p[3], p[-1], p)])
def test_genes_that_do_not_follow_each_other_are_refused(folder: Path, dataset: Path, spoil: object) -> None:
    indptr = np.fromfile(folder / "indptr", "<i8")
    spoil(indptr).astype("<i8").tofile(folder / "indptr")
    _describe(folder, {"checksums": {name: store.checksum(folder / name) for name in ("indptr", store.METADATA)}})
    refused(folder, dataset, "do not follow each other|does not fit the others")


def _describe(folder: Path, changes: dict[str, object]) -> None:
    found = json.loads((folder / store.MANIFEST).read_bytes().splitlines()[0]) | changes
    line = json.dumps(found).encode()
    (folder / store.MANIFEST).write_bytes(store.signed(line))


@pytest.mark.parametrize("content", [b"", b"\n", b"null\n", b"[]\n", b"\xff" * 100, b"{}"])
def test_no_description_at_all_is_refused(folder: Path, dataset: Path, content: bytes) -> None:
    for line in (content, store.signed(content.strip())):
        (folder / store.MANIFEST).write_bytes(line)
        refused(folder, dataset, "damaged|another kind")
