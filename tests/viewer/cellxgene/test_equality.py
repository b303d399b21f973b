"""Every answer of a worker is plain cellxgene's: the same bytes, and the same numbers where numbers are computed."""

import base64
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import viewer_samples
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from pbmc import write_pbmc
from places import SUPPORT
from stores_fixtures import MEMORY, PLENTY, ignore, never
from viewer_fixtures import Server, worker

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # cellxgene's imports

BINARY = "application/octet-stream"
REAL = "700 real cells"
DISTINCT = {"CSR", "CSC", "dense", "float64", "dense float64", "one type"}  # no two genes of these are alike


class Plain:
    """cellxgene as it is."""

    def __init__(self, place: str):
        script = SUPPORT / "viewer_answers.py"
        with (Path(place) / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, script],
                cwd=place,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def say(self, **what: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def cellxgene() -> Iterator[Plain]:
    with tempfile.TemporaryDirectory() as place:
        plain = Plain(place)
        yield plain
        plain.close()


@dataclass(frozen=True)
class Both:
    """A worker and plain cellxgene with the same dataset."""

    kind: str
    ours: Server
    plain: Plain
    genes: list[str]
    index: str

    def ask(self, name: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[bytes, bytes]:
        """The bodies of both answers, which have the same status."""
        headers = {"Accept": BINARY, **headers}
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content_Type": "application/json", **headers}
        reply = self.ours.api(name, method, body, **headers)
        plain = self.plain.say(
            target=f"/api/v0.2/{name}",
            method=method,
            body=body,
            headers={key.replace("_", "-"): value for key, value in headers.items()},
        )
        assert (reply.status, name) == (plain["status"], name)
        return reply.body, base64.b64decode(plain["body"])

    def json(self, name: str, **how: Any) -> tuple[Any, Any]:
        ours, plain = self.ask(name, Accept="application/json", **how)
        return json.loads(ours), json.loads(plain)

    def same(self, name: str, method: str = "GET", body: Any = None, **headers: str) -> None:
        ours, plain = self.ask(name, method, body, **headers)
        assert len(plain) > 0
        assert ours == plain, name

    def query(self, genes: list[str]) -> str:
        return "&".join(f"var:{self.index}={gene.replace(' ', '%2520')}" for gene in genes)


@pytest.fixture(scope="module", params=[REAL, *viewer_samples.MATRICES])
def dataset(request: pytest.FixtureRequest, cellxgene: Plain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with one kind of matrix, which plain cellxgene shows."""
    path = tmp_path_factory.mktemp("equal") / f"{request.param}.h5ad"
    if request.param == REAL:
        write_pbmc(path)
    else:
        viewer_samples.write(request.param, path)
    assert cellxgene.say(dataset=str(path)) == {}
    return path


@pytest.fixture(scope="module", params=["in memory", "with a store"])
def both(request: pytest.FixtureRequest, dataset: Path, cellxgene: Plain) -> Iterator[Both]:
    extra = []
    if request.param == "with a store":
        cache = dataset.parent / "cache"
        with contextlib.closing(Stores(cache, None, limit=PLENTY, memory=MEMORY)) as stores:
            stores.make(Origin.of(str(dataset)), ignore, never)
        extra = ["--cache", str(cache)]
    with worker(dataset, extra=extra) as ours:
        assert "done" not in ours.steps[-1], "nothing is prepared: the store is used, or none is to be made"
        schema = ours.api("schema").json["schema"]["annotations"]["var"]
        names = decoded(ours.api(f"annotations/var?annotation-name={schema['index']}", Accept=BINARY).body)
        yield Both(dataset.stem, ours, cellxgene, list(names[0]), schema["index"])


def decoded(body: bytes) -> list[Any]:
    from server.common.fbs.matrix import decode_matrix_fbs  # noqa: PLC0415 - cellxgene's own; it warns at import

    table = decode_matrix_fbs(body)
    return [np.asarray(table.iloc[:, place]) for place in range(table.shape[1])]


def test_what_the_page_draws_is_byte_for_byte_the_same(both: Both) -> None:
    ours, plain = both.json("schema")
    assert ours == plain
    for name in ("annotations/obs", "annotations/var", "layout/obs"):
        both.same(name)
    for axis in ("obs", "var"):
        for column in ours["schema"]["annotations"][axis]["columns"]:
            both.same(f"annotations/{axis}?annotation-name={column['name']}")
    for layout in ours["schema"]["layout"]["obs"]:
        both.same(f"layout/obs?layout-name={layout['name']}")
    ours, plain = both.json("colors")
    assert ours == plain


def test_what_the_page_is_told_is_the_same_but_for_labels(both: Both) -> None:
    ours, plain = (answer["config"] for answer in both.json("config"))
    for part in ("corpora_props", "library_versions", "limits", "links"):
        assert ours[part] == plain[part]
    for name in ("layout", "max-category-items", "obs_names", "var_names", "diffexp_lfc_cutoff", "disable-diffexp"):
        assert ours["parameters"][name] == plain["parameters"][name]
    assert ours["displayNames"] == plain["displayNames"]


def test_values_of_genes_are_byte_for_byte_the_same(both: Both) -> None:
    for genes in ([both.genes[0]], both.genes[-1:], both.genes[:7], [both.genes[-1], both.genes[0]]):
        both.same(f"data/var?{both.query(genes)}")
    chosen = {"filter": {"var": {"annotation_value": [{"name": both.index, "values": both.genes[:3]}]}}}
    both.same("data/var", "PUT", chosen)
    both.same("data/var", "PUT", {"filter": {"var": {"index": [0, [0, 1]]}}})
    both.ask("data/var", "PUT", {"filter": {}})  # all genes, which are too many of most datasets
    both.same(f"data/var?var:{both.index}=nothing")
    both.ask("data/var?var:nothing=1")
    both.ask(f"data/var?obs:kind=B&{both.query(both.genes[:1])}")


def test_means_of_gene_sets_are_the_same_numbers(both: Both) -> None:
    for genes in (both.genes[:1], both.genes[:2], both.genes[:30]):
        query = f"method=mean&{both.query(genes)}"
        for ours, plain in (
            both.ask(f"summarize/var?{query}"),
            both.ask("summarize/var", "POST", query, Content_Type="application/x-www-form-urlencoded"),
        ):
            assert len(ours) == len(plain)
            (mine,), (theirs,) = decoded(ours), decoded(plain)
            assert mine.dtype == theirs.dtype
            np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6)
    both.same("summarize/var?method=mean")
    both.same(f"summarize/var?method=mean&var:{both.index}=nothing")
    both.ask(f"summarize/var?method=median&{both.query(both.genes[:1])}")


def groups(both: Both) -> Iterator[tuple[str, Any, Any]]:
    yield "halves", {"index": [[0, 150]]}, {"index": [[150, 300]]}
    yield "few and many", {"index": [1, 5, 77]}, {"index": [[100, 290]]}
    # Not 200 of each: shares of those may differ by 0.01, the cutoff, which float32 puts on either side of itself.
    yield "overlapping", {"index": [[0, 190]]}, {"index": [[100, 300]]}
    yield "two and two", {"index": [3, 4]}, {"index": [[5, 7]]}
    yield "one and many", {"index": [3]}, {"index": [[5, 290]]}
    if both.kind not in (REAL, "one type"):
        kinds = ({"annotation_value": [{"name": "kind", "values": [name]}]} for name in ("B", "T"))
        yield "kinds", next(kinds), next(kinds)


def test_comparisons_find_the_same_genes_in_the_same_order(both: Both) -> None:
    count = 10
    for name, one, other in groups(both):
        order = {"mode": "topN", "count": count, "set1": {"filter": {"obs": one}}, "set2": {"filter": {"obs": other}}}
        if both.kind == "one gene":  # where plain cellxgene fails
            reply = both.ours.api("diffexp/obs", "POST", order, Accept="application/json")
            assert [[row[0] for row in reply.json[side]] for side in ("positive", "negative")] == [[0], [0]]
            continue
        ours, plain = both.json("diffexp/obs", method="POST", body=order)
        for side in ("positive", "negative"):
            mine, theirs = (np.array(answer[side], float) for answer in (ours, plain))
            # Genes that differ alike are in no order: those without variance, and those with the very same counts.
            ties = np.isclose(mine[:, 1:3], theirs[:, 1:3], rtol=1e-5, atol=0).all(axis=1)
            assert list(mine[~ties, 0]) == list(theirs[~ties, 0]), name
            assert both.kind not in DISTINCT or list(mine[:, 0]) == list(theirs[:, 0]), name
            precise = "float64" in both.kind or ("counts" in both.kind and both.kind != "short counts")
            tolerance = {"rtol": 1e-6, "atol": 1e-12} if precise else {"rtol": 2e-3, "atol": 1e-5}
            np.testing.assert_allclose(mine[:, 1:], theirs[:, 1:], **tolerance, err_msg=f"{name} {side}")


def test_an_order_cellxgene_refuses_is_refused(both: Both) -> None:
    for body in ({}, {"mode": "topN"}, {"mode": "varFilter", "count": 1, "set1": {}, "set2": {}}):
        reply = both.ours.api("diffexp/obs", "POST", body)
        assert 400 <= reply.status < 502
    assert json.loads(both.ask("genesets", Accept="application/json")[0])["genesets"] == []
