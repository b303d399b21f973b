"""A hook of MkDocs: the page of options is made from the options themselves, so that it says what this version does."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jupyter_core.application import JupyterApp
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from traitlets import Bool, Dict, Float, Integer, TraitType, Unicode

from cxg_proxy import errors
from cxg_proxy.gateway.options import Gateway, aliases, flags

CHECKOUT = Path(__file__).resolve().parent.parent
MODEL = CHECKOUT / "jupyter_config" / "cxg_proxy_config.py"
OPTIONS, COMMON, COPY = (
    "<!-- the options -->",
    "<!-- the options of every Jupyter program -->",
    "<!-- the file to copy -->",
)
OURS = set(Gateway.class_traits(config=True)) - set(JupyterApp.class_traits(config=True))
OTHERS = "What hosts set, or a person at a terminal"
HERE = "the Python that runs cxg-proxy"
KINDS: dict[type[TraitType[Any, Any]], str] = {
    Bool: "true or false",
    Integer: "a whole number",
    Float: "a number",
    Unicode: "a text",
    Dict: "names with values",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The icon is the tile's."""
    icon = str(resources.files("cxg_proxy.gateway.pages") / "static" / "icon.svg")
    files.append(File.generated(config, "icon.svg", abs_src_path=icon))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs'
    """Put the options where the page leaves room for them."""
    if page.file.src_uri == "troubleshooting.md":
        return re.sub(r"^### .+ \{ #(\w+) \}$", _with_title, markdown, flags=re.MULTILINE)
    if page.file.src_uri != "configuration.md":
        return markdown
    markdown = markdown.replace(OPTIONS, "\n".join(_options())).replace(COMMON, "\n".join(_common()))
    return markdown.replace(COPY, f"```python\n{MODEL.read_text()}```")


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - MkDocs'
    """Material's dialogue for searching has no name."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def _with_title(heading: re.Match[str]) -> str:
    """Below a problem's sentence the title that its page has."""
    kind = getattr(errors, heading[1], None)
    return heading[0] if kind is None else f"{heading[0]}\n\n*{kind.title}*{{ .title }}"


def _options() -> Iterator[str]:
    for group, names in groups().items():
        yield f"## {group}\n"
        for name in names:
            yield f"### `{name}` {{#{name}}}\n"
            yield f"{described(name)['help']}\n"
            yield f"- on a command line: {described(name)['flag']}"
            yield f"- in the file: `c.Gateway.{name}`, {described(name)['type']}"
            yield f"- by default: {described(name)['default']}\n"


def groups() -> dict[str, list[str]]:
    """The names of all options of ours: those for administrators as their model file groups them, then the others."""
    found: dict[str, list[str]] = {}
    for line in MODEL.read_text().splitlines():
        if heading := re.match(r"# --- (.+?) -+$", line):
            found[heading[1]] = []
        elif option := re.match(r"# c\.Gateway\.(\w+) = ", line):
            found[list(found)[-1]].append(option[1])
    known = {name for names in found.values() for name in names}
    in_order = [name for each in Gateway.__mro__ for name in vars(each) if name in OURS]
    return {**found, OTHERS: [name for name in in_order if name not in known]}


def described(name: str) -> Mapping[str, str]:
    """What an option is, in words and as Markdown."""
    trait = Gateway.class_traits(config=True)[name]
    if not trait.help:
        raise ValueError(f"the option {name} has no help")
    return {"help": trait.help, "flag": _flag(name), "type": _type(trait), "default": default(name)}


def _flag(name: str) -> str:
    if name.replace("_", "-") in flags:
        return f"`--{name.replace('_', '-')}`"
    short = [alias for alias, full in aliases.items() if full == f"Gateway.{name}"]
    value = "NAME=…" if isinstance(Gateway.class_traits()[name], Dict) else "…"
    dash = " " if value != "…" else "="
    return f"`--{short[0] if short else f'Gateway.{name}'}{dash}{value}`"


def _type(trait: TraitType[Any, Any]) -> str:
    kind = next(words for each, words in KINDS.items() if isinstance(trait, each))
    least, most = getattr(trait, "min", None), getattr(trait, "max", None)
    if least is not None:
        kind += f" from {least:g} to {most:g}" if most not in (None, math.inf) else f", {least:g} or more"
    return kind + (" or `None`" if trait.allow_none else "")


def default(name: str) -> str:
    """The default of an option, as it is on no machine in particular."""
    with_home = {each: os.environ.pop(each) for each in list(os.environ) if each.startswith("XDG_")}
    try:
        value = getattr(Gateway(), name)
    finally:
        os.environ.update(with_home)
    if value == sys.executable:
        return HERE
    if isinstance(value, str):
        value = value.replace(str(Path.home()), "~")
    return f"`{written(value)}`" if value not in ("", {}) else "nothing"


def written(value: object) -> str:
    """A value as a person writes it in the file."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{int(value):_}" if value == int(value) else repr(value)
    return repr(value)


def _common() -> Iterator[str]:
    yield "| on a command line | what it does |"
    yield "|---|---|"
    theirs = JupyterApp.class_traits(config=True)
    for alias, full in sorted(aliases.items()):
        kind, _, name = full.partition(".")
        if kind != "Gateway":
            text = theirs[name].help.split("\n")[0] if name in theirs else name
            yield f"| `--{alias}=…` | {text} |"
    for flag, (_, text) in sorted(flags.items()):
        if flag.replace("-", "_") not in OURS:
            yield f"| `--{flag}` | {' '.join(text.split())} |"
