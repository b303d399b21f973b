"""cellxgene's options: checked where they are set, and explained when they are wrong."""

import os
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.errors import BadOptions
from cxg_proxy.viewer.options import apply, gather


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
        pytest.param("backed", True, "cannot be set here", marks=pytest.mark.hazard(11)),
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
        ("title: [", "cells.h5ad.cxg.yaml cannot be used: it is not valid YAML at line 1, column 9"),
        ("- title", "must hold lines such as"),
        ("scripts: [https://example.org/x.js]", "only the configuration may add scripts"),
        ("title: !!python/object/apply:os.system ['true']", "not valid YAML at line 1, column 8"),
        ("[" * 5000, "not valid YAML"),
        ("title: " + "x" * 70_000, "larger than 65536 bytes"),
        ("title: \x00", "not valid YAML"),
        ("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b]\ntitle: [*c,*c]", "in cells.h5ad.cxg.yaml"),
    ],
)
def test_a_wrong_file_beside_the_dataset_is_explained(dataset: str, text: str, words: str) -> None:
    beside(dataset, text)
    with pytest.raises(BadOptions) as caught:
        gather(dataset, {})
    assert words in caught.value.sentence
    assert len(caught.value.sentence) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "title: x\nsecret",
        "secret",
        "[secret]",
        "secret: [",
        "title: !secret x",
        "title: !!int secret",
        "title: !!bool secret",
        "title: !!timestamp secret",
        "title: *secret",
        "? {secret: 1}\n: 2",
        "title: secret\x01",
        "title: secret\udcff",
    ],
)
def test_what_is_no_list_of_options_is_not_quoted(dataset: str, text: str) -> None:
    Path(dataset + ".cxg.yaml").write_bytes(os.fsencode(text))
    with pytest.raises(BadOptions) as caught:
        gather(dataset, {})
    assert "cells.h5ad.cxg.yaml cannot be used" in caught.value.sentence
    assert "secret" not in caught.value.sentence


@pytest.mark.parametrize("there", [True, False])
def test_a_link_out_of_the_folder_is_refused_whether_or_not_it_leads_anywhere(tmp_path: Path, there: bool) -> None:
    (tmp_path / "library").mkdir()
    elsewhere = tmp_path / "elsewhere.yaml"
    if there:
        elsewhere.write_text("title: T\n")
    dataset = tmp_path / "library" / "cells.h5ad"
    Path(f"{dataset}.cxg.yaml").symlink_to(elsewhere)
    with pytest.raises(BadOptions, match="a link into another folder; put the file itself beside the dataset"):
        gather(str(dataset), {})


def test_the_file_may_lie_beside_the_dataset_by_either_of_its_names(tmp_path: Path) -> None:
    for folder in ("real", "library"):
        (tmp_path / folder).mkdir()
    real, named = tmp_path / "real" / "a.h5ad", tmp_path / "library" / "cells.h5ad"
    real.touch()
    named.symlink_to(real)
    (tmp_path / "shown").symlink_to(tmp_path / "library")
    shown = str(tmp_path / "shown" / "cells.h5ad")
    assert gather(shown, {}) == {}
    beside(str(real), "title: Of the real file\n")
    Path(f"{named}.cxg.yaml").symlink_to(f"{real}.cxg.yaml")
    assert gather(shown, {}) == {"title": "Of the real file"}
    Path(f"{named}.cxg.yaml").unlink()
    beside(str(named), "title: Of the name\n")
    assert gather(shown, {}) == {"title": "Of the name"}


def test_a_pipe_of_that_name_holds_nobody_up(dataset: str) -> None:
    os.mkfifo(dataset + ".cxg.yaml")
    with pytest.raises(BadOptions, match="not an ordinary file"):
        gather(dataset, {})


@pytest.mark.filterwarnings("ignore::FutureWarning")  # cellxgene's import of anndata
@pytest.mark.parametrize("scripts", ["a.js", ["a.js"]])
def test_one_script_may_be_given_without_a_list(dataset: str, scripts: Any) -> None:
    from server.common.config.app_config import AppConfig  # noqa: PLC0415 - it warns while it is imported

    config = AppConfig()
    apply(gather(dataset, {"scripts": scripts}), config)
    assert config.dataset_config.app__scripts == ["a.js"]


def test_an_empty_file_or_none_is_fine(dataset: str) -> None:
    assert gather(dataset, {}) == {}
    beside(dataset, "# nothing yet\n")
    assert gather(dataset, {}) == {}
