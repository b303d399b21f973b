"""The page of sentences: it has those that people see, word by word, and no others."""

from __future__ import annotations

import ast
import re
from importlib import resources
from pathlib import Path

import pytest

import cxg_proxy
from cxg_proxy import errors
from cxg_proxy.errors import Problem
from docs_site import Site
from places import CHECKOUT

pytest_plugins = ["docs_plugin"]

PACKAGE = Path(str(resources.files(cxg_proxy)))
KINDS = {kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)}


def sentences() -> dict[str, str]:
    """The headings of the page of sentences that have an anchor of their own, by that anchor."""
    text = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
    found = re.findall(r"^### (.+?) \{ #([\w-]+) \}$", text, re.MULTILINE)
    assert len(found) == len(re.findall("^### ", text, re.MULTILINE)) == len(dict(map(reversed, found)))
    return {anchor: sentence for sentence, anchor in found}


@pytest.mark.parametrize("name", KINDS)
def test_every_problem_stands_there_with_its_very_sentence(name: str) -> None:
    possible = [KINDS[name](which, detail=detail).sentence for which in ("", "…") for detail in ("", "…")]
    assert sentences().get(name) in possible


def test_no_sentence_stands_there_that_the_program_does_not_say() -> None:
    strip = (PACKAGE / "gateway" / "web" / "injected" / "strip.js").read_text()
    said = [text for name in ("read", "save", "display") for text in texts(PACKAGE / "notebook" / f"{name}.py")]
    said += [file.read_text() for file in (CHECKOUT / "cxg_proxy" / "labextension" / "src").glob("*.ts")]
    said += [(PACKAGE / "notebook" / "show.js").read_text()]
    for anchor, sentence in sentences().items():
        if anchor.startswith("strip-"):
            for piece in filter(None, map(str.strip, sentence.split("…"))):
                assert piece in strip, piece
        elif anchor.startswith(("python-", "lab-", "show-")):
            for piece in filter(None, map(str.strip, sentence.split("…"))):
                assert any(piece in text for text in said), piece
        else:
            assert anchor in KINDS


@pytest.mark.parametrize("module", ["save", "display"])
def test_every_error_of_a_function_for_notebooks_stands_there(module: str) -> None:
    nodes = ast.walk(ast.parse((PACKAGE / "notebook" / f"{module}.py").read_text()))
    raised = [node.exc for node in nodes if isinstance(node, ast.Raise)]
    told = [error.args[0] for error in raised if isinstance(error, ast.Call) and error.args]
    said = ["".join(map(written, text.values)) for text in told if isinstance(text, ast.JoinedStr)]
    assert said
    assert [sentence for sentence in said if sentence not in sentences().values()] == []


def written(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "…"


def test_everything_that_the_strip_says_stands_there() -> None:
    said = re.findall(
        r'\b(?:say|tell)\(["`]([^"`]+)["`][,)]', (PACKAGE / "gateway" / "web" / "injected" / "strip.js").read_text()
    )
    assert len(said) > 8
    told = [re.sub(r"\$\{[^}]+\}", "…", sentence) for sentence in said]
    assert [sentence for sentence in told if sentence not in sentences().values()] == []


def test_every_problem_of_the_extension_stands_there() -> None:
    sources = "".join(file.read_text() for file in (CHECKOUT / "cxg_proxy" / "labextension" / "src").glob("*.ts"))
    said = re.findall(r'new Problem\(\s*["`][^"`]+["`],\s*["`]([^"`]+)["`]', sources)
    assert len(said) > 5
    told = [re.sub(r"\$\{[^}]+\}", "…", sentence) for sentence in said]
    assert [sentence for sentence in told if sentence not in sentences().values()] == []


def texts(module: Path) -> list[str]:
    """The texts in a module's code."""
    nodes = ast.walk(ast.parse(module.read_text()))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.mark.parametrize("name", KINDS)
def test_the_page_of_sentences_shows_the_title_that_the_user_saw_above(documentation: Site, name: str) -> None:
    assert KINDS[name].title in documentation.page("troubleshooting.html").sections[name]
