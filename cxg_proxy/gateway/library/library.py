"""The library: the root folders of a user's datasets, and the way from a name or an address to a file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from cxg_proxy.errors import DatasetNotFound, NotReadable

from .dataset import SUFFIX, Dataset, possible_names

REMOTE = "remote"  # the name of the library with the datasets at remote addresses
SINGLE = "dataset"  # the name of the library with a file that is shown alone
MAX_NAME_BYTES = 200  # bytes, which leaves room for what is added to a file's name


class Library:
    """The root folders, and the way from an address to a file that is proven to lie below one of them."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        *,
        follow_symlinks: bool = True,
        copies: Path = Path(),
        remotes: Iterable[str] = (),
    ) -> None:
        self.roots = dict(roots)
        self.follow_symlinks = follow_symlinks
        self.remotes = frozenset(name + SUFFIX for name in remotes)
        self._copies = copies  # the folder with the copies of the remote datasets

    @property
    def names(self) -> list[str]:
        """The names of the libraries, with the one of the remote datasets last."""
        return [*self.roots, *([REMOTE] if self.remotes else [])]

    def split(self, address: str) -> tuple[str, str]:
        """Split `<library>/<path.h5ad>/<rest>` after the dataset; raises DatasetNotFound if no part names one.

        A folder may be called `x.h5ad` too, so the first part that is a file wins.
        """
        parts = address.split("/")
        ends = [n for n, part in enumerate(parts, 1) if n > 1 and any(r.endswith(SUFFIX) for r in possible_names(part))]
        for n in ends:
            if len(ends) == 1 or any(self._is_file(name) for name in possible_names("/".join(parts[:n]))):
                return "/".join(parts[:n]), "/".join(parts[n:])
        if ends:
            return "/".join(parts[: ends[0]]), "/".join(parts[ends[0] :])
        raise DatasetNotFound(possible_names(address)[0])

    def find(self, address: str) -> Dataset:
        """Return the dataset at the address `<library>/<path>`; raises DatasetNotFound or NotReadable."""
        names = possible_names(address)
        for name in names:
            if name == names[-1] or self._is_file(name):
                return self.named(name)
        raise DatasetNotFound(address)

    def remote(self, path: str) -> Dataset:
        """Return the dataset at a remote address, whether or not its copy exists."""
        file = Path(os.path.realpath(self._copies / path))
        try:
            status = os.stat(file)
        except OSError:
            return Dataset(REMOTE, path, file, file, 0, 0, 0, remote=True)
        return Dataset(REMOTE, path, file, file, status.st_size, status.st_mtime_ns, status.st_ino, remote=True)

    def holds(self, real: Path) -> bool:
        """Whether a resolved path may be served: it lies below a root, or symlinks may lead out of the roots."""
        return self.follow_symlinks or any(real.is_relative_to(os.path.realpath(root)) for root in self.roots.values())

    def _place(self, name: str) -> tuple[str, str, Path]:
        library, _, path = name.partition("/")
        parts = path.split("/")
        root = self.roots.get(library)
        hidden = any(part.startswith(".") for part in parts)  # this includes `.` and `..`
        if root is None or hidden or not path.endswith(SUFFIX) or "" in parts or "\0" in path:
            raise DatasetNotFound(name)
        return library, path, root / path

    def _is_file(self, name: str) -> bool:
        try:
            return self._is_remote(name) or self._place(name)[2].is_file()
        except (DatasetNotFound, OSError, ValueError):
            return False

    def _is_remote(self, name: str) -> bool:
        library, _, path = name.partition("/")
        return library == REMOTE and path in self.remotes

    def named(self, name: str) -> Dataset:
        """Return the dataset of this exact name, which is not an address; raises DatasetNotFound or NotReadable."""
        if self._is_remote(name):
            return self.remote(name.partition("/")[2])
        library, path, file = self._place(name)
        try:
            real = Path(os.path.realpath(file))
            status = os.stat(real)
        except PermissionError as reason:
            raise NotReadable(name) from reason
        except (OSError, ValueError) as reason:  # the file is gone, symlinks form a loop, or the name is too long
            raise DatasetNotFound(name) from reason
        if not stat.S_ISREG(status.st_mode) or not self.holds(real):
            raise DatasetNotFound(name)
        if not os.access(real, os.R_OK):
            raise NotReadable(name)
        return Dataset(library, path, file, real, status.st_size, status.st_mtime_ns, status.st_ino)


def root_folders(libraries: Mapping[str, str], root: str) -> dict[str, Path]:
    """Return the folders of the libraries by name.

    The folder `root`, or the user's home if there is no library at all, comes first and is called `home`.
    """
    roots = {name: Path(folder).expanduser().absolute() for name, folder in libraries.items()}
    if root or not roots:
        first = Path(root or "~").expanduser().absolute()
        roots = {"home": first, **{name: folder for name, folder in roots.items() if name != "home"}}
    return roots


def root_alone(file: str, title: str, place: Path) -> dict[str, Path]:
    """Create a library of one dataset in a private folder of the gateway: a link to the file, named after the title.

    The file itself may have any name and suffix (Galaxy's is dataset_12.dat), but a viewer needs the right suffix.
    """
    path = Path(file).expanduser().absolute()
    folder = place / SINGLE
    folder.mkdir(mode=0o700)
    (folder / file_name(title or path.name.removesuffix(SUFFIX))).symlink_to(path)
    return {SINGLE: folder}


def other_name(shown: Mapping[str, Path], dataset: Dataset) -> str:
    """Return the name of a dataset in another library that also holds its file, or "", without accessing a disk.

    A link in the home folder may lead to a file that lies in a shared library.
    """
    for library, folder in shown.items():
        if library != dataset.library and dataset.real.is_relative_to(folder):
            path = dataset.real.relative_to(folder)
            if not any(part.startswith(".") for part in path.parts):  # otherwise the file is hidden there
                return f"{library}/{path}"
    return ""


def only_dataset(shown: Mapping[str, Path]) -> str:
    """Return the name of the file that is shown alone."""
    ((library, folder),) = shown.items()
    return f"{library}/{os.listdir(folder)[0]}"


def file_name(title: str) -> str:
    """Return a title as the name of a dataset's file, changed as little as possible."""
    name = "".join("_" if letter in "/\0" else letter for letter in title).strip().lstrip(".")
    name = name.removesuffix(SUFFIX)
    while len(os.fsencode(name.encode(errors="surrogateescape"))) > MAX_NAME_BYTES:
        name = name[:-1]
    return (name or SINGLE) + SUFFIX
