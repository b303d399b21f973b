"""The scan of the libraries, which finds the datasets in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .dataset import SUFFIX, Dataset
from .library import REMOTE, Library


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink into a folder that the user may not enter
        return False


@dataclass
class _Folder:
    """The content of one folder when it was last listed."""

    modified_ns: int
    listed_ns: int
    folders: list[str]
    files: dict[str, bool]  # by name: whether the file is a symlink


class Scan:
    """Walks the roots for datasets, bounded and without cycles; a second walk lists only the folders that changed.

    `datasets` grows while `run` walks (in a thread of its own) and is always safe to read. `only` is the one library to
    walk, so that a disk that hangs does not hold up the other libraries.
    """

    def __init__(self, library: Library, limit: int, only: str | None = None) -> None:
        self.library = library
        self.limit = limit
        self.only = only
        self.datasets: list[Dataset] = []
        self.problems: dict[str, str] = {}
        self.complete = False  # at least one walk has ended
        self.cut = False  # the limit ended the walk
        self._folders: dict[str, _Folder] = {}

    def run(self, now_ns: int) -> None:
        """Walk once. The first walk publishes each dataset as it finds it; later ones replace the list at their end."""
        datasets = [] if self.complete else self.datasets
        if self.only in (None, REMOTE):
            datasets.extend(self.library.remote(path) for path in sorted(self.library.remotes))
        problems: dict[str, str] = {}
        folders: dict[str, _Folder] = {}
        cut = False
        for name, root in self.library.roots.items():
            if self.only not in (None, name):
                continue
            left = self.limit
            try:
                for dataset, looked in self._walk(name, root, folders, now_ns):
                    left -= looked
                    if left < 0:
                        cut = True
                        break
                    if dataset is not None:
                        datasets.append(dataset)
            except OSError as reason:
                problems[name] = f"{root}: {reason.strerror}"
        self._folders, self.problems, self.cut = folders, problems, cut
        self.datasets, self.complete = datasets, True

    def _walk(
        self, library: str, root: Path, folders: dict[str, _Folder], now_ns: int
    ) -> Iterator[tuple[Dataset | None, int]]:
        """Yield (dataset or None, number of entries examined); raises OSError if the root cannot be listed.

        A library that lies inside another one is walked only once.
        """
        waiting, seen = [("", Path(os.path.realpath(root)))], set[tuple[int, int]]()
        while waiting:
            path, real = waiting.pop()
            try:
                folder = self._list(real, seen, now_ns)
            except OSError:
                if path == "":
                    raise
                continue  # a folder that the user may not list counts as empty
            if folder is None:
                continue
            folders[str(real)] = folder
            yield None, 1 + len(folder.folders)
            for name, is_symlink in sorted(folder.files.items()):
                yield self._dataset(library, path + name, root, real / name, is_symlink), 1
            for name in reversed(folder.folders):
                below = Path(os.path.realpath(real / name))
                if below not in self.library.roots.values() and self.library.holds(below):
                    waiting.append((f"{path}{name}/", below))

    def _list(self, real: Path, seen: set[tuple[int, int]], now_ns: int) -> _Folder | None:
        """Return the folder's entries, from the last walk if it has not changed; None if this walk was here before."""
        status = os.stat(real)
        if (status.st_dev, status.st_ino) in seen:
            return None
        seen.add((status.st_dev, status.st_ino))
        before = self._folders.get(str(real))
        # A change within the clock's resolution would not show in the modification time.
        if (
            before
            and before.modified_ns == status.st_mtime_ns
            and before.listed_ns - status.st_mtime_ns > 2_000_000_000
        ):
            return before
        folder = _Folder(status.st_mtime_ns, now_ns, [], {})
        with os.scandir(real) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    folder.folders.append(entry.name)
                elif entry.name.endswith(SUFFIX):
                    folder.files[entry.name] = entry.is_symlink()
        folder.folders.sort()
        return folder

    def _dataset(self, library: str, path: str, root: Path, file: Path, is_symlink: bool) -> Dataset | None:
        try:
            real = Path(os.path.realpath(file)) if is_symlink else file
            status = os.stat(real)
        except OSError:  # a dangling symlink, or a file that was removed since the listing
            return None
        if not stat.S_ISREG(status.st_mode) or (is_symlink and not self.library.holds(real)):
            return None
        return Dataset(library, path, root / path, real, status.st_size, status.st_mtime_ns, status.st_ino)
