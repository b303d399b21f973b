"""The small file of options beside a dataset: found only there, and never quoted where it is not understood."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any

import yaml

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import BadOptions
from cxg_proxy.etags import OPTIONS_BESIDE

_BYTES = 64 * 1024
# What PyYAML raises at tags and values that it cannot make sense of, besides its own errors.
_ERRORS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def read(dataset: str) -> Mapping[str, Any]:
    """What the file beside the dataset says; nothing if there is none."""
    text = _text(dataset)
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
    # No more than the place: what stands there may be the content of a file that was never meant to be shown.
    mark = getattr(error, "problem_mark", None)
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _text(dataset: str) -> str | None:
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
        # A pipe of that name must not hold us, and a link made since then not lead us elsewhere.
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
