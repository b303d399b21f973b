"""The distribution of tests to processes: by file, since the tests of a file share servers, and the longest first."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from xdist.scheduler import LoadScopeScheduling

# Files that take long, the longest first. The files of one line go to one process, since they share fixtures.
LONG = [
    ["test_binder"],
    ["test_lab"],
    ["test_prepare"],
    ["test_hub"],
    ["test_docs", "test_docs_browser", "test_sentences"],
    ["test_lab_menu"],
    ["test_benchmarks"],
    ["test_labels_survive_kills"],
    ["test_two_tabs"],
    ["test_show"],
    ["test_history"],
    ["test_beside_plain"],
    ["test_numba_cache"],
    ["test_build_life"],
    ["test_jupyter"],
    ["test_galaxy_job"],
    ["test_standalone"],
    ["test_demo"],
]
GROUPS = {name: number for number, names in enumerate(LONG) for name in names}


def stem(nodeid: str) -> str:
    """Return the name of a test's file, without its folder and suffix."""
    return PurePosixPath(nodeid.partition("::")[0]).stem


def order(nodeid: str) -> int:
    """Return the place of a test in the order; the smallest comes first."""
    return GROUPS.get(stem(nodeid), len(LONG))


class LongestFirst(LoadScopeScheduling):
    """A scheduler that gives each process one group of files at a time."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # or it would begin with the files that have the most tests

    def _split_scope(self, nodeid: str) -> str:
        return "+".join(LONG[GROUPS[stem(nodeid)]]) if stem(nodeid) in GROUPS else nodeid.partition("::")[0]
