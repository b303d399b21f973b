"""The datasets a user may open: roots of folders, name ⇄ address ⇄ file, and the list of what is there."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote_to_bytes

from cxg_proxy.errors import DatasetNotFound, NotReadable

SUFFIX = ".h5ad"
REMOTE = "remote"  # the library of the datasets at remote addresses
# RFC 3986's unreserved characters, without the tilde that starts our escapes. Every proxy on the way leaves these
# alone; jupyter-server-proxy for one decodes a path and quotes it again with `?` and `#` left bare.
PLAIN = frozenset((string.ascii_letters + string.digits + "-._/").encode())
ESCAPED = re.compile(rb"~([0-9A-Fa-f]{2})")

SINGLE = "dataset"  # the library of a file that is shown alone
LONGEST_NAME = 200  # bytes, so that a file's name has room for what we add


def escape(name: str) -> str:
    """A name or path as an address of unreserved characters only: every other byte becomes `~` and two hex digits."""
    return "".join(chr(byte) if byte in PLAIN else f"~{byte:02X}" for byte in os.fsencode(name))


def unescape(address: str) -> str:
    """The name that `escape` was given; text that is no escape of ours stays as it is."""
    return os.fsdecode(ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(address)))


def readings(address: str) -> tuple[str, ...]:
    """The names an address may mean: ours first, then the plain percent-encoded one a person may have typed."""
    plain = os.fsdecode(unquote_to_bytes(address))
    ours = unescape(plain)
    return (ours,) if ours == plain else (ours, plain)


@dataclass(frozen=True)
class Dataset:
    """One .h5ad file, as found: `path` is relative to its library, `real` has no symlink left in it."""

    library: str
    path: str
    file: Path
    real: Path
    bytes: int
    modified_ns: int
    inode: int
    remote: bool = False  # the file is a copy of what is at a remote address; it may not be here yet

    @cached_property
    def there(self) -> bool:
        """Whether the file is here; if not, its size is unknown."""
        return not self.remote or self.inode != 0

    @cached_property
    def name(self) -> str:
        """`<library>/<path>`, for people."""
        return f"{self.library}/{self.path}"

    @cached_property
    def label(self) -> str:
        """The file's name without its suffix."""
        return self.path.rpartition("/")[2][: -len(SUFFIX)]

    @cached_property
    def folder(self) -> str:
        """The name of the folder it lies in, library first."""
        return self.name.rpartition("/")[0]

    @cached_property
    def address(self) -> str:
        """`name` for use in a link."""
        return escape(self.name)

    @cached_property
    def fingerprint(self) -> tuple[str, int, int, int]:
        """Changes whenever the file does."""
        return (str(self.real), self.bytes, self.modified_ns, self.inode)

    @cached_property
    def version(self) -> str:
        """The fingerprint as a short word, to be held by a page."""
        return hashlib.blake2b(repr(self.fingerprint).encode(errors="replace"), digest_size=8).hexdigest()


class Library:
    """The roots, and the way from an address to a file that is proven to lie below one of them."""

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
        self._copies = copies  # the folder of the copies of these

    @property
    def names(self) -> list[str]:
        """The libraries, that of the remote datasets last."""
        return [*self.roots, *([REMOTE] if self.remotes else [])]

    def split(self, address: str) -> tuple[str, str]:
        """Cut `<library>/<path.h5ad>/<rest>` after the dataset; raises DatasetNotFound if no part names one.

        A folder may be called `x.h5ad` too, so the first part that is a file wins.
        """
        parts = address.split("/")
        ends = [n for n, part in enumerate(parts, 1) if n > 1 and any(r.endswith(SUFFIX) for r in readings(part))]
        for n in ends:
            if len(ends) == 1 or any(self._is_file(name) for name in readings("/".join(parts[:n]))):
                return "/".join(parts[:n]), "/".join(parts[n:])
        if ends:
            return "/".join(parts[: ends[0]]), "/".join(parts[ends[0] :])
        raise DatasetNotFound(readings(address)[0])

    def find(self, address: str) -> Dataset:
        """The dataset at `<library>/<path>`; raises DatasetNotFound or NotReadable."""
        names = readings(address)
        for name in names:
            if name == names[-1] or self._is_file(name):
                return self.named(name)
        raise DatasetNotFound(address)

    def remote(self, path: str) -> Dataset:
        """The dataset at a remote address with its copy, or without one."""
        file = Path(os.path.realpath(self._copies / path))
        try:
            found = os.stat(file)
        except OSError:
            return Dataset(REMOTE, path, file, file, 0, 0, 0, remote=True)
        return Dataset(REMOTE, path, file, file, found.st_size, found.st_mtime_ns, found.st_ino, remote=True)

    def holds(self, real: Path) -> bool:
        """Whether a resolved path may be served: it lies below a root, or symlinks may lead out."""
        return self.follow_symlinks or any(real.is_relative_to(os.path.realpath(root)) for root in self.roots.values())

    def _place(self, name: str) -> tuple[str, str, Path]:
        library, _, path = name.partition("/")
        parts = path.split("/")
        root = self.roots.get(library)
        hidden = any(part.startswith(".") for part in parts)  # `.` and `..` are among these
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
        """The dataset of this very name, which is no address; raises DatasetNotFound or NotReadable."""
        if self._is_remote(name):
            return self.remote(name.partition("/")[2])
        library, path, file = self._place(name)
        try:
            real = Path(os.path.realpath(file))
            found = os.stat(real)
        except PermissionError as reason:
            raise NotReadable(name) from reason
        except (OSError, ValueError) as reason:  # gone, a loop of symlinks, a name too long
            raise DatasetNotFound(name) from reason
        if not stat.S_ISREG(found.st_mode) or not self.holds(real):
            raise DatasetNotFound(name)
        if not os.access(real, os.R_OK):
            raise NotReadable(name)
        return Dataset(library, path, file, real, found.st_size, found.st_mtime_ns, found.st_ino)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink into a folder one may not enter
        return False


@dataclass
class _Folder:
    """What one folder held when it was listed last."""

    modified_ns: int
    listed_ns: int
    folders: list[str]
    files: dict[str, bool]  # whether it is a symlink


class Scan:
    """Walks the roots for datasets, bounded, without cycles; a second walk lists only the folders that changed.

    `datasets` grows while `run` walks (in a thread of its own) and is always safe to read. `only` is the one library
    to walk: a disk that hangs then keeps nobody from the others.
    """

    def __init__(self, library: Library, limit: int, only: str | None = None) -> None:
        self.library = library
        self.limit = limit
        self.only = only
        self.datasets: list[Dataset] = []
        self.problems: dict[str, str] = {}
        self.complete = False  # a whole walk has been done
        self.cut = False  # the limit ended the walk
        self._known: dict[str, _Folder] = {}

    def run(self, now_ns: int) -> None:
        """Walk once. The first walk shows what it finds at once, later ones replace the list when they are done."""
        found = [] if self.complete else self.datasets
        if self.only in (None, REMOTE):
            found.extend(self.library.remote(path) for path in sorted(self.library.remotes))
        problems: dict[str, str] = {}
        known: dict[str, _Folder] = {}
        cut = False
        for name, root in self.library.roots.items():
            if self.only not in (None, name):
                continue
            left = self.limit
            try:
                for dataset, looked in self._walk(name, root, known, now_ns):
                    left -= looked
                    if left < 0:
                        cut = True
                        break
                    if dataset is not None:
                        found.append(dataset)
            except OSError as reason:
                problems[name] = f"{root}: {reason.strerror}"
        self._known, self.problems, self.cut = known, problems, cut
        self.datasets, self.complete = found, True

    def _walk(
        self, library: str, root: Path, known: dict[str, _Folder], now_ns: int
    ) -> Iterator[tuple[Dataset | None, int]]:
        """Yield (dataset or None, entries looked at), a library in another once; OSError if the root is not listed."""
        waiting, seen = [("", Path(os.path.realpath(root)))], set[tuple[int, int]]()
        while waiting:
            path, real = waiting.pop()
            try:
                folder = self._list(real, seen, now_ns)
            except OSError:
                if path == "":
                    raise
                continue  # a folder one may not list is like an empty one
            if folder is None:
                continue
            known[str(real)] = folder
            yield None, 1 + len(folder.folders)
            for name, is_symlink in sorted(folder.files.items()):
                yield self._dataset(library, path + name, root, real / name, is_symlink), 1
            for name in reversed(folder.folders):
                below = Path(os.path.realpath(real / name))
                if below not in self.library.roots.values() and self.library.holds(below):
                    waiting.append((f"{path}{name}/", below))

    def _list(self, real: Path, seen: set[tuple[int, int]], now_ns: int) -> _Folder | None:
        """The folder's entries, remembered if it has not changed; None if this walk was here before."""
        found = os.stat(real)
        if (found.st_dev, found.st_ino) in seen:
            return None
        seen.add((found.st_dev, found.st_ino))
        before = self._known.get(str(real))
        # Within the clock's grain a change would not show in the time of modification.
        if before and before.modified_ns == found.st_mtime_ns and before.listed_ns - found.st_mtime_ns > 2_000_000_000:
            return before
        folder = _Folder(found.st_mtime_ns, now_ns, [], {})
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
            found = os.stat(real)
        except OSError:  # a dangling symlink, or gone between listing and looking
            return None
        if not stat.S_ISREG(found.st_mode) or (is_symlink and not self.library.holds(real)):
            return None
        return Dataset(library, path, root / path, real, found.st_size, found.st_mtime_ns, found.st_ino)


def place_of(address: str) -> str:
    """The library of an address: the disk it lies on, as far as can be said without asking that disk."""
    return address.partition("/")[0]


def folders(libraries: Mapping[str, str], root: str) -> dict[str, Path]:
    """The libraries by name, with the host's or the user's own folder first where there is one."""
    roots = {name: Path(folder).expanduser().absolute() for name, folder in libraries.items()}
    if root or not roots:
        first = Path(root or "~").expanduser().absolute()
        roots = {"home": first, **{name: folder for name, folder in roots.items() if name != "home"}}
    return roots


def alone(file: str, title: str, place: Path) -> dict[str, Path]:
    """A library of one, in a private folder of the gateway: a link with the title as its name.

    The file itself may have any name and suffix (Galaxy's is dataset_12.dat), but a viewer needs the right one.
    """
    path = Path(file).expanduser().absolute()
    folder = place / SINGLE
    folder.mkdir(mode=0o700)
    (folder / file_name(title or path.name.removesuffix(SUFFIX))).symlink_to(path)
    return {SINGLE: folder}


def other_name(shown: Mapping[str, Path], dataset: Dataset) -> str:
    """What a dataset is called in another library that holds its file too, or "". No disk is asked.

    A link at home leads to a file as well as the shared library does that it lies in.
    """
    for library, folder in shown.items():
        if library != dataset.library and dataset.real.is_relative_to(folder):
            path = dataset.real.relative_to(folder)
            if not any(part.startswith(".") for part in path.parts):  # else it is hidden there
                return f"{library}/{path}"
    return ""


def only(shown: Mapping[str, Path]) -> str:
    """The name of the file that is shown alone."""
    ((library, folder),) = shown.items()
    return f"{library}/{os.listdir(folder)[0]}"


def file_name(title: str) -> str:
    """A title as the name of a dataset's file, as near as a name can be."""
    name = "".join("_" if letter in "/\0" else letter for letter in title).strip().lstrip(".")
    name = name.removesuffix(SUFFIX)
    while len(os.fsencode(name.encode(errors="surrogateescape"))) > LONGEST_NAME:
        name = name[:-1]
    return (name or SINGLE) + SUFFIX
