"""cellxgene's options: checked where they are set, and explained when they are wrong."""

import os
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.errors import BadOptions
from cxg_proxy.viewer.options import gather


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return str(tmp_path / "cells.h5ad")


def beside(dataset: str, text: str) -> None:
    Path(dataset + ".cxg.yaml").write_text(text)


def test_options_have_cellxgenes_names_however_they_are_hyphenated(dataset: str) -> None:
    given = {
        "title": "T",
        "max-category-items": 5,
        "embedding": ["X_umap", "tsne"],
        "--disable-diffexp": True,
        "x_approximate_distribution": "count",
        "top_n": 20,
        "about": None,
    }
    assert gather(dataset, given) == {
        "title": "T",
        "max_category_items": 5,
        "embeddings": ["X_umap", "tsne"],
        "disable_diffexp": True,
        "X_approximate_distribution": "count",
        "diffexp_top_n": 20,
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("title", 7, "title in the configuration is 7, but must be a text"),
        ("about", "example.org", "must be a whole web address"),
        ("about", "javascript:alert(1)", "must be a whole web address"),
        ("max_category_items", True, "must be a whole number"),
        ("max_category_items", 0, "must be a whole number"),
        ("diffexp_lfc_cutoff", "much", "must be a number"),
        ("diffexp_lfc_cutoff", float("nan"), "must be a number"),
        ("disable_diffexp", 1, "must be true or false"),
        ("embeddings", {"a": 1}, "must be a name or a list of names"),
        ("X_approximate_distribution", "other", "must be auto, normal or count"),
        ("scripts", ['"><script>'], "must be addresses of scripts"),
        ("scripts", [{"src": "a.js", "onload": "x"}], "src, integrity and crossorigin"),
        ("embeding", "umap", "did you mean embeddings?"),
        ("nonsense", 1, "Known are title, about"),
        ("port", 5005, "cannot be set here: cxg-proxy chooses the address"),
        ("backed", True, "cannot be set here"),
        ("annotations-file", "x.csv", "see --home"),
    ],
)
def test_a_wrong_option_is_explained(dataset: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(BadOptions) as caught:
        gather(dataset, {name: value})
    assert words in caught.value.sentence
    assert "the configuration" in caught.value.sentence
    assert caught.value.which == "cells.h5ad"


def test_the_file_beside_the_dataset_wins_but_cannot_loosen_a_limit(dataset: str) -> None:
    beside(dataset, "title: Mine\ndisable-annotations: false\ndiffexp_cellcount_max: 50\ncolumn_request_max: 9\n")
    configured = {"title": "T", "disable_annotations": True, "diffexp_cellcount_max": 10, "column_request_max": 16}
    assert gather(dataset, configured) == {
        "title": "Mine",
        "disable_annotations": True,
        "diffexp_cellcount_max": 10,
        "column_request_max": 9,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("titel: x", "'titel' in cells.h5ad.cxg.yaml is unknown; did you mean title?"),
        ("title: [", "cells.h5ad.cxg.yaml cannot be read"),
        ("- title", "must hold lines such as"),
        ("scripts: [https://example.org/x.js]", "only the configuration may add scripts"),
        ("title: !!python/object/apply:os.system ['true']", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("title: " + "x" * 70_000, "larger than 65536 bytes"),
        ("title: \x00", "cannot be read"),
        ("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b]\ntitle: [*c,*c]", "in cells.h5ad.cxg.yaml"),
    ],
)
def test_a_wrong_file_beside_the_dataset_is_explained(dataset: str, text: str, words: str) -> None:
    beside(dataset, text)
    with pytest.raises(BadOptions) as caught:
        gather(dataset, {})
    assert words in caught.value.sentence
    assert len(caught.value.sentence) < 1000


def test_a_pipe_of_that_name_holds_nobody_up(dataset: str) -> None:
    os.mkfifo(dataset + ".cxg.yaml")
    with pytest.raises(BadOptions, match="not an ordinary file"):
        gather(dataset, {})


def test_an_empty_file_or_none_is_fine(dataset: str) -> None:
    assert gather(dataset, {}) == {}
    beside(dataset, "# nothing yet\n")
    assert gather(dataset, {}) == {}
