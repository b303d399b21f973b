"""The options of a dataset, cellxgene's and `layer`, from the configuration and a file beside the dataset."""

from __future__ import annotations

import difflib
import math
import os
import reprlib
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import BadOptions
from cxg_proxy.etags import OPTIONS_BESIDE

_BYTES = 64 * 1024
# What PyYAML raises for invalid tags and values, besides its own errors.
_ERRORS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_ALIASES = {
    "embedding": "embeddings",
    "top_n": "diffexp_top_n",
    "x_approximate_distribution": "X_approximate_distribution",
}
_ADDRESS = "cxg-proxy chooses the address"
_PLACE = "labels and gene sets have one place per user and dataset; see --home"
_SECURITY = "cxg-proxy sets this itself"
_REFUSED = {
    **dict.fromkeys(("host", "port", "socket", "open", "open_browser", "force_https"), _ADDRESS),
    **dict.fromkeys(("annotations_file", "annotations_dir", "user_generated_data_dir", "gene_sets_file"), _PLACE),
    **dict.fromkeys(("flask_secret_key", "generate_cache_control_headers", "debug", "verbose"), _SECURITY),
    "backed": "it loads the whole matrix later all the same",
    "datapath": "the dataset is the file that was opened",
    "config_file": "write its options one by one",
    "dump_default_config": "it shows nothing in a browser",
    "inline_scripts": "name the file in scripts",
}
_LIMITS = ("diffexp_cellcount_max", "column_request_max")


@dataclass(frozen=True)
class _Option:
    """One option: its attribute and section in cellxgene's configuration, and the check and conversion of its value.

    `value` raises ValueError, whose message names the allowed values.
    """

    attribute: str
    value: Callable[[Any], Any]
    section: str = "dataset"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def _flag(value: Any) -> bool:
    if value is not True and value is not False:
        raise ValueError("true or false")
    return bool(value)


def _inverted(value: Any) -> bool:
    return not _flag(value)


def _count(most: int = 2**31 - 1) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"a whole number from 1 to {most}")
        return value

    return check


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError("a number, 0 or more")
    return float(value)


def _names(value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("a name or a list of names, such as umap")
    return [name.removeprefix("X_") for name in names]


def _web_address(value: Any) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a whole web address that begins with https:// or http://")
    return str(value)


def _scripts(value: Any) -> list[Any]:
    scripts = value if isinstance(value, list) else [value]
    for script in scripts:
        attributes = script if isinstance(script, dict) else {"src": script}
        if not set(attributes) <= {"src", "integrity", "crossorigin"} or not _plain(attributes.get("src")):
            raise ValueError("addresses of scripts, or mappings with src, integrity and crossorigin")
        if not all(_plain(text) for text in attributes.values()):
            raise ValueError("addresses of scripts, without spaces and quotes")
    return scripts


def _plain(value: Any) -> bool:
    """Whether the value can be put into cellxgene's template, which does not escape it."""
    return isinstance(value, str) and bool(value) and not any(c.isspace() or c in "\"'<>;" for c in value)


def _distribution(value: Any) -> str:
    if value not in ("auto", "normal", "count"):
        raise ValueError("auto, normal or count")
    return str(value)


_OPTIONS = {
    "title": _Option("single_dataset__title", _text, "server"),
    "about": _Option("single_dataset__about", _web_address, "server"),
    "obs_names": _Option("single_dataset__obs_names", _text, "server"),
    "var_names": _Option("single_dataset__var_names", _text, "server"),
    "diffexp_cellcount_max": _Option("limits__diffexp_cellcount_max", _count(), "server"),
    "column_request_max": _Option("limits__column_request_max", _count(), "server"),
    "scripts": _Option("app__scripts", _scripts),
    "embeddings": _Option("embeddings__names", _names),
    "layer": _Option("", _text, "adaptor"),  # not an option of cellxgene: the layer of the file to show in place of X
    "max_category_items": _Option("presentation__max_categories", _count()),
    "disable_custom_colors": _Option("presentation__custom_colors", _inverted),
    "diffexp_lfc_cutoff": _Option("diffexp__lfc_cutoff", _share),
    "diffexp_top_n": _Option("diffexp__top_n", _count(1000)),
    "disable_diffexp": _Option("diffexp__enable", _inverted),
    "disable_annotations": _Option("user_annotations__enable", _inverted),
    "disable_gene_sets_save": _Option("user_annotations__gene_sets__readonly", _flag),
    "X_approximate_distribution": _Option("X_approximate_distribution", _distribution),
}


def gather(dataset: str, configured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked options of this dataset, from the configuration and the file beside the dataset.

    The file beside the dataset takes precedence, but it can only tighten the limits of the configuration and cannot
    enable what that disables. Raises BadOptions.
    """
    name = display_name(dataset)
    options = _checked(configured, name, "the configuration")
    beside = name + OPTIONS_BESIDE
    for option, value in _checked(read(dataset), name, beside).items():
        if option == "scripts":
            raise BadOptions(name, detail=f"scripts in {beside}: only the configuration may add scripts to the page")
        options[option] = _tightened(option, value, options.get(option))
    return options


def _tightened(option: str, value: Any, configured: Any) -> Any:
    if configured is None:
        return value
    if option.startswith("disable_"):
        return value or configured
    return min(value, configured) if option in _LIMITS else value


def _checked(given: Mapping[str, Any], dataset: str, where: str) -> dict[str, Any]:
    options = {}
    for written, value in given.items():
        name = _known(written, dataset, where)
        if value is None:
            continue
        try:
            _OPTIONS[name].value(value)
        except ValueError as error:
            detail = f"{written} in {where} is {reprlib.repr(value)}, but must be {error}"
            raise BadOptions(dataset, detail=detail) from error
        options[name] = value
    return options


def _known(written: Any, dataset: str, where: str) -> str:
    name = str(written)[:100].strip().lstrip("-").replace("-", "_")
    name = _ALIASES.get(name, name)
    if name in _OPTIONS:
        return name
    if name in _REFUSED:
        raise BadOptions(dataset, detail=f"{written} in {where} cannot be set here: {_REFUSED[name]}")
    guess = difflib.get_close_matches(name, _OPTIONS, n=1)
    hint = f"did you mean {guess[0]}? " if guess else ""
    raise BadOptions(
        dataset, detail=f"{reprlib.repr(written)} in {where} is unknown; {hint}Known are {', '.join(_OPTIONS)}"
    )


def bound_cells(config: Any, most: int | None) -> None:
    """Limit a comparison to `most` cells, even if the options allow more; None sets no limit."""
    if most is not None:
        chosen = config.server_config.limits__diffexp_cellcount_max
        config.update_server_config(limits__diffexp_cellcount_max=min(most, chosen or most))


def apply(options: Mapping[str, Any], config: Any) -> None:
    """Set the gathered options in cellxgene's configuration."""
    for name, value in options.items():
        option = _OPTIONS[name]
        if option.section == "adaptor":
            continue
        update = config.update_server_config if option.section == "server" else config.update_dataset_config
        update(**{option.attribute: option.value(value)})


def read(dataset: str) -> Mapping[str, Any]:
    """Read the options in the file beside the dataset, unchecked; empty if there is none. Raises BadOptions."""
    text = _text_beside(dataset)
    if text is None:
        return {}
    try:
        content = yaml.safe_load(text)
    except _ERRORS as error:
        raise _problem(dataset, f"it is not valid YAML{_position(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise _problem(dataset, "it must hold lines such as 'title: My cells'")
    return content


def _position(error: Exception) -> str:
    # Only the position is given: the text there may be the content of a file that was never meant to be shown.
    mark = getattr(error, "problem_mark", None)
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _text_beside(dataset: str) -> str | None:
    path = os.path.realpath(dataset + OPTIONS_BESIDE)
    beside = {os.path.realpath(os.path.dirname(dataset)), os.path.dirname(os.path.realpath(dataset))}
    if os.path.dirname(path) not in beside:
        raise _problem(dataset, "it is a link into another folder; put the file itself beside the dataset")
    try:
        content = _small_file(path)
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        raise _problem(dataset, "it is not text in UTF-8") from None
    except ValueError as error:
        raise _problem(dataset, str(error)) from error
    except OSError as error:
        raise _problem(dataset, error.strerror or type(error).__name__) from error


def _small_file(path: str) -> bytes | None:
    try:
        # Opening must neither block on a pipe of this name nor follow a link made since the path was resolved.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not an ordinary file")
        content = file.read(_BYTES + 1)
    if len(content) > _BYTES:
        raise ValueError(f"it is larger than {_BYTES} bytes")
    return content


def _problem(dataset: str, reason: str) -> BadOptions:
    name = display_name(dataset)
    return BadOptions(name, detail=f"{name}{OPTIONS_BESIDE} cannot be used: {reason}")
