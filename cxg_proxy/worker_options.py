"""Orders from the gateway to a worker: options declared once, for both the writing and the reading side.

Each field of `ServeOrder` is an option of `python -m cxg_proxy.viewer serve`: `--read-only` stands for `read_only`. The
dataset is the last argument.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .annotations import LIMIT

BUILD_MEMORY_BYTES = 1_000_000_000  # working memory of the builder of a store, by default


def positive(text: str) -> int:
    """Read a whole number of 1 or more; raises ArgumentTypeError or ValueError."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object; raises ArgumentTypeError or ValueError."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _option(help_text: str, read: Callable[[str], Any] = str) -> dict[str, Any]:
    return {"help": help_text, "read": read}


@dataclass(frozen=True)
class ServeOrder:
    """The order to serve one dataset; sizes are in bytes."""

    dataset: str
    socket: str = field(metadata=_option("path of the unix socket to make"))
    labels: Path = field(metadata=_option("directory of this user's labels for this dataset", Path))
    options: Mapping[str, Any] = field(
        default_factory=dict, metadata=_option("cellxgene's options, as a JSON object", json_object)
    )
    read_only: bool = field(default=False, metadata=_option("save neither labels nor gene sets"))
    memory_limit: int | None = field(default=None, metadata=_option("bytes the worker may use", positive))
    threads: int = field(default=4, metadata=_option("requests answered at once, beside those that wait", positive))
    diffexp_workers: int = field(default=1, metadata=_option("comparisons at once", positive))
    diffexp_max_cells: int | None = field(default=None, metadata=_option("cells in one comparison", positive))
    history_limit: int = field(default=LIMIT, metadata=_option("bytes that old versions of labels may take", positive))
    cache: Path | None = field(
        default=None, metadata=_option("directory of what can be computed again; none keeps no store", Path)
    )
    shared_cache: Path | None = field(
        default=None, metadata=_option("directory of stores prepared by an administrator", Path)
    )
    cache_limit: int | None = field(default=None, metadata=_option("bytes that stores may take; 0 keeps none", int))
    build_memory: int = field(default=BUILD_MEMORY_BYTES, metadata=_option("bytes a builder may work with", positive))

    def to_arguments(self) -> list[str]:
        """Return the command line that `add_arguments` and `parse` read."""
        words: list[str] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "dataset" or value is None or value is False:
                continue
            words.append(_flag(each.name))
            if value is not True:
                words.append(json.dumps(value) if each.name == "options" else str(value))
        return [*words, "--", self.dataset]

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Declare an option for each field."""
        for each in fields(cls):
            if each.name == "dataset":
                continue
            if each.default is False:
                parser.add_argument(_flag(each.name), action="store_true", help=each.metadata["help"])
            else:
                needed = each.name in ("socket", "labels")
                how = {"required": needed, "type": each.metadata["read"], "help": each.metadata["help"]}
                parser.add_argument(_flag(each.name), default=argparse.SUPPRESS, **how)
        parser.add_argument("dataset", help="the .h5ad file")

    @classmethod
    def parse(cls, parsed: argparse.Namespace) -> ServeOrder:
        """Build the order from a parsed command line; an omitted option takes the default of its field."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in vars(parsed).items() if name in names})


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
