"""Compiled once: what is kept with the package, or in the user's own folder, is loaded by every later process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cxg_proxy

NOBODY = 65534
ALL = ["float32", "float64", "int32", "int64"]
PROGRAM = """
import json, sys, tempfile
from pathlib import Path
import numpy as np
from scipy import sparse
from cxg_proxy.viewer.compute import diffexp, kernels
from cxg_proxy.viewer.store import matrix

both = (kernels.of_sparse, kernels.of_dense)
touched = [len(each.overloads) + len(each.stats.cache_hits) + len(each.stats.cache_misses) for each in both]
with tempfile.TemporaryDirectory() as place:
    def mapped(name, values):
        values.tofile(Path(place) / name)
        return np.memmap(Path(place) / name, values.dtype, "r", shape=values.shape)
    for dtype in sys.argv[1:]:
        whole = (np.random.default_rng(0).random((9, 5)) * 9).astype(dtype)
        held = sparse.csc_matrix(whole)
        parts = {"p": held.indptr.astype(np.int64), "i": held.indices.astype(np.int32), "d": held.data}
        kinds = [
            matrix.Sparse(held.shape, *(mapped(name, part) for name, part in parts.items())),
            matrix.of(held),
            matrix.Dense(mapped("w", np.ascontiguousarray(whole.T)).T),
            matrix.of(whole),
        ]
        mask = np.arange(9) < 4
        results = [diffexp.compare(kind, "normal", mask, ~mask, 2, 0.0) for kind in kinds]
        assert results[1:] == results[:1] * 3
kept = [sum(getattr(each.stats, what).values()) for what in ("cache_hits", "cache_misses") for each in both]
print(json.dumps({"touched": sum(touched), "hits": kept[:2], "misses": kept[2:]}))
"""


class Package:
    """A copy of the package as an administrator installs it: others can only read it."""

    def __init__(self, place: Path):
        self.place = place
        shutil.copytree(
            Path(cxg_proxy.__file__).parent, place / "cxg_proxy", ignore=shutil.ignore_patterns("*.pyc", "*.nb?")
        )

    def run(self, *command: str, home: Path | str = "/nonexistent", administrator: bool = False) -> str:
        """What the command prints; unless an administrator runs it, by somebody who cannot write here."""
        how: dict[str, Any] = {}
        if not administrator and os.getuid() == 0:
            how = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        elif not administrator:
            for folder in self.place.rglob("**/"):
                folder.chmod(0o555)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(self.place), "LANG": "C.UTF-8"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        try:
            done = subprocess.run(
                [sys.executable, *command], cwd="/", env=environment, capture_output=True, text=True, check=False, **how
            )
        finally:
            for folder in self.place.rglob("**/"):
                folder.chmod(0o755)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def compare(self, *dtypes: str, **how: Any) -> dict[str, Any]:
        return json.loads(self.run("-c", PROGRAM, *dtypes, **how))


def installed() -> Iterator[Package]:
    with tempfile.TemporaryDirectory(prefix="cxgw-") as place:
        Path(place).chmod(0o755)
        yield Package(Path(place))


new = pytest.fixture(installed, name="new")


@pytest.fixture(scope="module")
def compiled() -> Iterator[Package]:
    for package in installed():
        assert package.run("-m", "cxg_proxy.viewer", "compile", administrator=True) == ""
        yield package


def test_what_was_compiled_with_the_package_is_compiled_for_everybody(compiled: Package) -> None:
    assert compiled.compare(*ALL) == {"touched": 0, "hits": [4, 4], "misses": [0, 0]}
    assert compiled.compare("uint32", administrator=True) == {"touched": 0, "hits": [1, 1], "misses": [0, 0]}


def test_where_only_the_user_can_write_each_compiles_once(new: Package) -> None:
    with tempfile.TemporaryDirectory(prefix="cxgw-") as home:
        Path(home).chmod(0o777)
        assert new.compare("float32", home=home)["misses"] == [1, 1]
        assert new.compare("float32", home=home) == {"touched": 0, "hits": [1, 1], "misses": [0, 0]}
    assert not list(new.place.rglob("*.nb?"))


def test_where_nothing_can_be_written_it_works_all_the_same(new: Package) -> None:
    for _ in range(2):
        assert new.compare("float32") == {"touched": 0, "hits": [0, 0], "misses": [1, 1]}


def test_damaged_code_is_compiled_again(new: Package) -> None:
    assert new.compare("float32", administrator=True)["misses"] == [1, 1]
    for file in new.place.rglob("*.nbc"):
        os.truncate(file, file.stat().st_size // 2)
    assert new.compare("float32", administrator=True)["misses"] == [1, 1]
    assert new.compare("float32", administrator=True)["hits"] == [1, 1]
