"""The column store of one dataset: its matrix by columns, mapped from files, beside a small .h5ad of all else.

A folder holds `store.json` (what it is, with a checksum), `rest.h5ad`, and as raw little-endian arrays either `indptr`
(int64), `indices` (int32) and `data`, or `values` (gene after gene). `replies` is for what is made from them.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import matrix

FORMAT = 2  # another one for every change in what a store holds
MANIFEST = "store.json"
REST = "rest.h5ad"
REPLIES = "replies"
ARRAYS = {"sparse": ("indptr", "indices", "data"), "dense": ("values",)}
SMALL = {"indptr", REST}  # with checksums: they can be read whole whenever a store is opened
DTYPES = {np.dtype(kind).str for kind in ("<f4", "<f8", "<i4", "<i8", "<u4", "<u8")}
_MANIFEST_MAX = 1 << 20
_BLOCK_BYTES = 1 << 20


class Unusable(Exception):
    """There is no store here that can be trusted; the text says why."""


class Unreadable(Unusable):
    """Whether the store can be trusted could not be seen, now: it may be whole."""


def fingerprint(source: str, layer: str | None) -> str:
    """What names the store of this state of the file: hexadecimal; raises OSError if there is no such file."""
    return fingerprint_of(source, os.stat(source), layer)


def fingerprint_of(source: str, status: os.stat_result, layer: str | None) -> str:
    """The same for a file that the system says this of."""
    # As bytes: a name need not be text.
    parts = [FORMAT, os.fsencode(os.path.realpath(source)), status.st_size, status.st_mtime_ns, status.st_ino, layer]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Manifest:
    """What `store.json` says; sizes in bytes, checksums SHA-256."""

    format: int
    fingerprint: str
    kind: str
    shape: tuple[int, int]
    dtype: str
    distribution: str
    names_differ: bool  # each cell has a name of its own
    sizes: dict[str, int]
    checksums: dict[str, str]

    def to_bytes(self) -> bytes:
        """One line of JSON, and one with its checksum."""
        return signed(json.dumps(asdict(self), sort_keys=True).encode())

    @staticmethod
    def parse(content: bytes) -> Manifest:
        """The manifest that `to_bytes` wrote; raises Unusable."""
        line, _, checksum = content.partition(b"\n")
        if hashlib.sha256(line).hexdigest().encode() != checksum.strip():
            raise Unusable("its description is damaged")
        try:
            found = json.loads(line)
            if found["format"] != FORMAT:
                raise Unusable("it was made by another version")
            cells, genes = found["shape"]
            return Manifest(**{**found, "shape": (int(cells), int(genes))})
        except (ValueError, TypeError, KeyError) as error:
            raise Unusable("its description is of another kind") from error


def signed(line: bytes) -> bytes:
    """The line, and one with its checksum."""
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


class Store:
    """An open store. Its matrix is mapped and read-only, and stays readable when the files are removed."""

    def __init__(self, folder: Path, manifest: Manifest, found: matrix.Matrix):
        self.folder = folder
        self.shape = manifest.shape
        self.dtype = np.dtype(manifest.dtype)
        self.distribution = manifest.distribution
        self.names_differ = manifest.names_differ
        self.bytes = sum(manifest.sizes.values())
        self.matrix = found
        self.rest = folder / REST
        self.replies = folder / REPLIES

    @staticmethod
    def open(folder: Path, fingerprint: str) -> Store:
        """The store in the folder if it is whole and of this fingerprint; raises Unusable or Unreadable.

        Of the large arrays only the sizes are looked at, so that this takes milliseconds.
        """
        try:
            manifest = Manifest.parse(_start(folder / MANIFEST))
            if manifest.fingerprint != fingerprint:
                raise Unusable("it is of another dataset, or of another state of the file")
            _check(folder, manifest)
            return Store(folder, manifest, _matrix(folder, manifest))
        except OSError as error:
            kind = Unusable if isinstance(error, FileNotFoundError | NotADirectoryError) else Unreadable
            raise kind(f"{error.filename or folder}: {error.strerror or error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise Unusable("its description is of another kind") from error


def checksum(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    found, piece = hashlib.sha256(), bytearray(_BLOCK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(piece):
            found.update(memoryview(piece)[:count])
    return found.hexdigest()


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MANIFEST_MAX)


def _check(folder: Path, manifest: Manifest) -> None:
    names = {*ARRAYS.get(manifest.kind, ()), REST}
    if manifest.dtype not in DTYPES or names != set(manifest.sizes) or names & SMALL != set(manifest.checksums):
        raise Unusable("its description is of another kind")
    for name, size in manifest.sizes.items():
        if os.stat(folder / name).st_size != size:
            raise Unusable(f"{name} is not whole")
    for name, known in manifest.checksums.items():
        if checksum(folder / name) != known:
            raise Unusable(f"{name} is damaged")


def _matrix(folder: Path, manifest: Manifest) -> matrix.Matrix:
    dtype = np.dtype(manifest.dtype)
    cells, genes = manifest.shape
    if manifest.kind == "dense":
        _expect(manifest, "values", cells * genes * dtype.itemsize)
        return matrix.Dense(_mapped(folder / "values", dtype).reshape((cells, genes), order="F"))
    _expect(manifest, "indptr", (genes + 1) * 8)
    indptr = np.fromfile(folder / "indptr", "<i8")
    if len(indptr) != genes + 1 or indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        raise Unusable("the genes of its matrix do not follow each other")
    _expect(manifest, "indices", int(indptr[-1]) * 4)
    _expect(manifest, "data", int(indptr[-1]) * dtype.itemsize)
    return matrix.Sparse(
        (cells, genes), indptr, _mapped(folder / "indices", np.dtype("<i4")), _mapped(folder / "data", dtype)
    )


def _expect(manifest: Manifest, name: str, size: int) -> None:
    if manifest.sizes[name] != size:
        raise Unusable(f"{name} does not fit the others")


def _mapped(path: Path, dtype: np.dtype[Any]) -> Any:
    if not os.stat(path).st_size:  # nothing to map: no value differs from 0
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r")
