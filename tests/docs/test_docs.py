"""The documentation: it is built without a warning, leads nowhere wrong, and says what the program does."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyter_core.application import JupyterApp
from jupyter_core.command import jupyter_parser
from traitlets.config import Config, PyFileConfigLoader

import cxg_proxy
from cxg_proxy import errors
from cxg_proxy.commands import annotations, prepare
from cxg_proxy.gateway.options import Gateway, aliases, flags
from cxg_proxy.viewer import __main__ as viewer
from cxg_proxy.viewer import options as viewer_options
from docs_site import (
    CHECKOUT,
    DOCUMENTS,
    REPOSITORY,
    SOURCES,
    Site,
    blocks,
    command_lines,
    fenced,
    is_elsewhere,
    typed,
)

pytest_plugins = ["docs_plugin"]
PACKAGE = Path(str(resources.files(cxg_proxy)))
NOT_OURS = {"batchspawner"}  # what a block of code may import although it is not installed here
OURS = sorted(set(Gateway.class_traits(config=True)) - set(JupyterApp.class_traits(config=True)))
NAMES = [str(document.relative_to(CHECKOUT)) for document in DOCUMENTS]


# --- the site ------------------------------------------------------------------------------------------------------


def test_the_site_has_a_page_for_each_source_and_was_built_without_a_warning(documentation: Site) -> None:
    assert {Path(name).stem for name in documentation.names} == {source.stem for source in SOURCES} | {"404"}
    assert "WARNING" not in documentation.said
    assert not re.search(r"not (found|included|in the nav)", documentation.said)


def test_every_link_and_anchor_inside_the_site_leads_somewhere(documentation: Site) -> None:
    links = [
        (name, link) for name in documentation.names if name != "404.html" for link in documentation.page(name).links
    ]
    inside = [(name, link) for name, link in links if not is_elsewhere(link)]
    assert len(inside) > 100
    assert [each for each in inside if not documentation.leads_somewhere(*each)] == []


def test_every_link_into_the_repository_names_a_file_of_it(documentation: Site) -> None:
    links = {
        link for name in documentation.names for link in documentation.page(name).links if link.startswith(REPOSITORY)
    }
    assert links
    assert [link for link in links if not (CHECKOUT / link.removeprefix(REPOSITORY)).is_file()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_relative_link_of_a_document_names_a_file_beside_it(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    files = [link.partition("#")[0] for link in links if not is_elsewhere(link)]
    made = {"icon.svg"}  # by the hook
    assert [file for file in files if file and file not in made and not (document.parent / file).is_file()] == []


def test_the_pages_load_nothing_from_another_host(documentation: Site) -> None:
    loaded = [link for name in documentation.names for link in documentation.page(name).loaded]
    assert len(loaded) > 10
    assert [link for link in loaded if is_elsewhere(link) or link.startswith("//")] == []


@pytest.mark.parametrize(("page", "source"), [("galaxy.html", "galaxy_ie/README.md"), ("security.html", "SECURITY.md")])
def test_what_a_page_includes_is_all_there(documentation: Site, page: str, source: str) -> None:
    text = " ".join(documentation.page(page).headings.values())
    headings = re.findall(r"^##+ (.+)$", (CHECKOUT / source).read_text(), re.MULTILINE)
    assert headings
    assert [heading for heading in headings if heading not in text] == []
    tables = re.findall(r"^\| [^|]*`([^`|]+)` \|", (CHECKOUT / source).read_text(), re.MULTILINE)
    whole = (documentation.folder / page).read_text()
    assert [name for name in tables if name not in whole] == []


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) <= 100


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_every_option_is_on_its_page_with_flag_help_and_default(documentation: Site, name: str) -> None:
    trait = Gateway.class_traits()[name]
    said = re.sub(r"\s+", " ", documentation.page("configuration.html").sections[name])
    short = [alias for alias, full in aliases.items() if full == f"Gateway.{name}"]
    flag = name.replace("_", "-") if name.replace("_", "-") in flags else (short or [f"Gateway.{name}"])[0]
    assert f"--{flag}" in said
    assert f"c.Gateway.{name}," in said
    assert re.sub(r"\s+", " ", trait.help).replace("`", "") in said.replace("`", "")
    assert f"by default: {expected(trait)}" in said


def expected(trait: Any) -> str:
    """The default as the page says it; of what depends on the machine, the beginning."""
    if trait.name in ("cache", "logs"):
        return "'~/."
    if trait.name == "viewer_python":
        return "the Python that runs cxg-proxy"
    value = trait.default(Gateway())
    if value in ("", {}):
        return "nothing"
    return f"{int(value):_}" if type(value) in (int, float) else repr(value)


def test_no_option_is_on_the_page_that_does_not_exist(documentation: Site) -> None:
    known = {f"c.Gateway.{name}" for name in OURS}
    said = "".join(documentation.page("configuration.html").sections.values())
    assert set(re.findall(r"c\.Gateway\.\w+", said)) == known


def test_the_options_of_a_single_dataset_are_those_that_the_viewer_knows() -> None:
    text = (CHECKOUT / "docs" / "configuration.md").read_text()
    table = text.partition("| option | value |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(viewer_options._OPTIONS)
    (example,) = (yaml.safe_load(block) for language, block in fenced(CHECKOUT / "docs" / "configuration.md")[:1])
    assert viewer_options._checked(example, "pbmc.h5ad", "the example") == example


# --- commands and code ---------------------------------------------------------------------------------------------


def commands_of(document: Path, *programs: str) -> Iterator[list[str]]:
    for line in command_lines(document):
        words = typed(line)
        if words[:1] and words[0] in programs and "…" not in line and len(words) > 1:
            yield words


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert [words for words in commands_of(document, "make") if words[1] not in targets and "=" not in words[1]] == []


def test_every_make_target_is_explained_to_who_writes_code() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    named = {words[1] for words in commands_of(CHECKOUT / "docs" / "develop.md", "make")}
    assert set(phony[1].split()) - {"help", "environment"} <= named


@pytest.mark.timeout(240)
@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_line_is_accepted_by_the_real_parser(document: Path) -> None:
    for words in commands_of(document, "cxg-proxy", "jupyter"):
        accept(words)
    for line in command_lines(document):
        if asked := re.search(r"\bpython -m cxg_proxy\.viewer ([a-z]+)$", line.partition("#")[0].strip()):
            viewer._parser().parse_args([asked[1]])


def accept(words: list[str]) -> None:
    """Raise or exit unless the program named takes these words."""
    program, *rest = words
    if program == "jupyter" and rest[0] == "standaloneproxy":
        from jupyter_server_proxy.standalone.app import StandaloneProxyServer  # noqa: PLC0415 - slow

        ours = rest.index("--")
        StandaloneProxyServer().parse_command_line(rest[1:ours])
        accept(rest[ours + 1 :])
    elif program == "jupyter":
        if rest[0].startswith("-"):
            jupyter_parser().parse_args(rest)
        else:
            executable = Path(sys.executable).with_name(f"jupyter-{rest[0]}")
            subprocess.run([executable, *rest[1:], "--help"], check=True, capture_output=True, timeout=120)
    elif rest[0] in ("annotations", "prepare"):
        module: Any = {"annotations": annotations, "prepare": prepare}[rest[0]]
        if len(rest) > 1 and rest[1:] != ["--help"]:
            module._parser().parse_args(rest[1:])
    elif rest[0] not in ("--help", "--help-all", "--version", "galaxy"):
        gateway = Gateway()
        gateway.parse_command_line(rest)
        gateway._take_dataset()


@pytest.mark.parametrize("words", [["cxg-proxy", "--librarie=a=b"], ["cxg-proxy", "prepare", "--shared"]])
def test_a_wrong_command_line_would_be_noticed(words: list[str]) -> None:
    with pytest.raises((SystemExit, errors.BadConfiguration)):
        accept(words)


@pytest.mark.parametrize(("document", "code"), blocks("python"))
def test_the_blocks_of_python_import_what_exists(document: str, code: str) -> None:
    tree = ast.parse(code, document)
    for node in ast.walk(tree):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
        for module in set(modules) - NOT_OURS:
            importlib.import_module(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cxg_proxy":
            assert node.attr in cxg_proxy.__all__


def test_every_option_that_is_set_in_a_block_of_code_exists_and_takes_the_value(tmp_path: Path) -> None:
    chart = [yaml.safe_load(code) for _, code in blocks("yaml") if "extraFiles" in code]
    files = [each["stringData"] for values in chart for each in values["singleuser"]["extraFiles"].values()]
    files += [code for _, code in blocks("python") if "c.Gateway." in code]
    assert len(files) > 3
    for number, code in enumerate(files):
        (tmp_path / f"{number}.py").write_text(code)
        config: Config = PyFileConfigLoader(f"{number}.py", str(tmp_path)).load_config()
        Gateway(config=config)
        assert set(config.Gateway) <= set(OURS)


def test_every_option_of_the_hub_that_is_named_exists() -> None:
    from jupyterhub.app import JupyterHub  # noqa: PLC0415 - slow
    from jupyterhub.spawner import Spawner  # noqa: PLC0415 - slow

    named = [found for document in DOCUMENTS for found in re.findall(r"\bc\.(\w+)\.(\w+)", document.read_text())]
    known = {"JupyterHub": JupyterHub, "Spawner": Spawner, "Gateway": Gateway}
    assert {"JupyterHub", "Spawner"} <= {owner for owner, _ in named}
    assert [each for each in named if each[0] in known and each[1] not in known[each[0]].class_traits()] == []


@pytest.mark.parametrize(("document", "code"), blocks("yaml"))
def test_the_blocks_of_yaml_can_be_read(document: str, code: str) -> None:
    assert isinstance(yaml.safe_load(code), dict), document


def test_every_file_that_is_named_to_who_writes_code_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.(?:py|js|html))`", (CHECKOUT / "docs" / "develop.md").read_text()))
    assert len(named) > 20
    assert [name for name in named if not any((place / name).is_file() for place in (PACKAGE, CHECKOUT))] == []
