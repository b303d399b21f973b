"""The notebook output of `cxg_proxy.show`, with hostile names of files."""

from __future__ import annotations

from pathlib import Path

from cxg_proxy.notebook import display
from datasets import HOSTILE

NAMES = [
    *HOSTILE,
    "a?b#c %41 .h5ad",
    "</script><script>alert(1)</script>/<!--.h5ad",
    "`${alert(1)}`.h5ad",
    "line\u2028paragraph\u2029.h5ad",
    "two\r\nlines\tand a tab.h5ad",
]


def file_at(folder: Path, name: str = "pbmc.h5ad") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    return file


def output(file: Path, height: int = 700) -> str:
    return display._output(file, height)
