"""The live viewer in a notebook's output: what the output holds, wherever it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

import cxg_proxy
from cxg_proxy.notebook import display
from notebook_output import NAMES, file_at, output


class Parts(HTMLParser):
    """What a browser reads in an output: its elements, the text for people, and the script."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text: dict[str, str] = {}
        self.feed(output)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        assert not attrs
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        """Add it to its element's."""
        self.text[self.elements[-1]] = self.text.get(self.elements[-1], "") + data


def test_a_cell_displays_the_viewer_and_a_text_for_where_there_is_none(tmp_path: Path) -> None:
    file_at(tmp_path, "a b.h5ad")
    code = "import cxg_proxy\ncxg_proxy.show('a b.h5ad', height=432)"
    cell = {"cell_type": "code", "id": "x", "metadata": {}, "execution_count": None, "outputs": [], "source": code}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "one.ipynb").write_text(json.dumps(notebook))
    program = str(Path(sys.executable).with_name("jupyter-execute"))
    around = {**os.environ, "PYTHONPATH": str(Path(cxg_proxy.__file__).parents[1]), "HOME": str(tmp_path)}
    subprocess.run([program, "--inplace", "one.ipynb"], cwd=tmp_path, env=around, check=True, capture_output=True)
    (made,) = json.loads((tmp_path / "one.ipynb").read_text())["cells"][0]["outputs"]
    assert made["output_type"] == "display_data"
    assert "".join(made["data"]["text/html"]) == output(tmp_path / "a b.h5ad", 432)
    assert f"cxg-proxy '{tmp_path / 'a b.h5ad'}'" in "".join(made["data"]["text/plain"])


def test_at_a_terminal_what_to_do_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_at(tmp_path)
    monkeypatch.chdir(tmp_path)
    cxg_proxy.show("pbmc.h5ad")
    said = capsys.readouterr().out
    assert "JupyterLab or Notebook 7" in said
    assert said.endswith(f"\n    cxg-proxy {file}\n")


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leaves_its_place_in_the_output(name: str, tmp_path: Path) -> None:
    file = file_at(tmp_path, name)
    parts = Parts(output(file))
    assert parts.elements == ["div", "p", "code", "pre", "script"]
    assert parts.text["code"].startswith(os.fsencode(file.name).decode(errors="replace"))
    call = parts.text["script"].rpartition("(document.currentScript, ")[2]
    assert call.isascii()
    told = json.loads(call.removesuffix(");"))
    assert unquote_to_bytes(told["path"]) == os.fsencode(file)
    assert not set(call) & set("<>&'`\n")
    json.dumps(output(file), ensure_ascii=False).encode()  # as a notebook is written


def test_the_script_can_stand_in_a_page_and_is_short() -> None:
    script = (Path(display.__file__).parent / "show.js").read_text()
    assert not [word for word in ("</script", "<script", "<!--") if word in script.lower()]
    assert script.count("\n") <= 150


def test_a_path_that_is_no_file_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"^There is no file {tmp_path}/none\.h5ad\. .* begins in {tmp_path}"):
        cxg_proxy.show("none.h5ad")
    with pytest.raises(IsADirectoryError, match=r"is a folder\. Name one of the \.h5ad files in it\.$"):
        cxg_proxy.show(tmp_path)
    for height in (0, -5, float("nan")):
        with pytest.raises(ValueError, match=r"cannot be seen"):
            cxg_proxy.show(file_at(tmp_path), height=height)  # type: ignore[arg-type]


def test_a_path_may_begin_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = file_at(tmp_path, "data/pbmc.h5ad")
    cxg_proxy.show("~/data/pbmc.h5ad")
    assert str(file) in capsys.readouterr().out
