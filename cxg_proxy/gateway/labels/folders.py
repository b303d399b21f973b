"""The folders of a user's labels, one for each dataset."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

from cxg_proxy.annotations import directory, named, saved
from cxg_proxy.gateway.library.dataset import Dataset
from cxg_proxy.gateway.library.library import REMOTE


class LabelFolders:
    """The folders of one user's labels: one below `home` for each dataset, or `single` for the only dataset shown.

    A file in `copies`, the folder of downloads, may move, so its labels are found by its name and not by its path.
    """

    def __init__(self, home: Path, copies: Path, single: Path | None) -> None:
        self._home, self._copies, self._single = home, copies, single
        self._folder_of = functools.lru_cache(maxsize=100_000)(self.of_file)

    def of(self, dataset: Dataset) -> Path:
        """Return the folder for a dataset."""
        return self.of_file(dataset.real)

    def of_file(self, real: Path) -> Path:
        """Return the folder for a dataset whose file, with links followed, is `real`."""
        if self._single is not None:
            return self._single
        if real.parent == self._copies:
            return named(self._home, f"{REMOTE}/{real.name}")
        return directory(self._home, real)

    def saved(self, files: Iterable[Path]) -> dict[Path, float]:
        """Return when labels of these files were last saved; `home` is listed once, however many files there are."""
        try:
            existing = set(os.listdir(self._home))
        except OSError:
            return {}
        return {
            file: when
            for file in files
            if (folder := self._folder_of(file)).name in existing and (when := saved(folder)) is not None
        }
