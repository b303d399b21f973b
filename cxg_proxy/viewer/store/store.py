"""The column store of one dataset: its matrix by columns, mapped from files, beside a small .h5ad of its metadata.

A folder holds `store.json` (the manifest, with a checksum), `rest.h5ad` (the metadata), and as raw little-endian arrays
either `indptr` (int64), `indices` (int32) and `data`, or `values` (gene after gene). `replies` is for packed replies.
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

FORMAT = 2  # raise it with every change of what a store holds
MANIFEST = "store.json"
METADATA = "rest.h5ad"
REPLIES = "replies"
ARRAYS = {"sparse": ("indptr", "indices", "data"), "dense": ("values",)}
SMALL = {"indptr", METADATA}  # small enough to be read whole, and checked, whenever a store is opened
DTYPES = {np.dtype(kind).str for kind in ("<f4", "<f8", "<i4", "<i8", "<u4", "<u8")}
_MANIFEST_MAX = 1 << 20
_BLOCK_BYTES = 1 << 20


class Unusable(Exception):
    """The folder holds no store that can be trusted; the message gives the reason."""


class Unreadable(Unusable):
    """The store cannot be read now, though it may be whole."""


@dataclass(frozen=True)
class Manifest:
    """The content of `store.json`; sizes are in bytes, and checksums are SHA-256."""

    format: int
    fingerprint: str
    kind: str
    shape: tuple[int, int]
    dtype: str
    distribution: str
    names_differ: bool  # the cell names are unique
    sizes: dict[str, int]
    checksums: dict[str, str]

    def to_bytes(self) -> bytes:
        """Return one line of JSON, and one with its checksum."""
        return signed(json.dumps(asdict(self), sort_keys=True).encode())

    @staticmethod
    def parse(content: bytes) -> Manifest:
        """Parse what `to_bytes` returned; raises Unusable if it is damaged or of another format."""
        line, _, checksum = content.partition(b"\n")
        if hashlib.sha256(line).hexdigest().encode() != checksum.strip():
            raise Unusable("its description is damaged")
        try:
            data = json.loads(line)
            if data["format"] != FORMAT:
                raise Unusable("it was made by another version")
            cells, genes = data["shape"]
            return Manifest(**{**data, "shape": (int(cells), int(genes))})
        except (ValueError, TypeError, KeyError) as error:
            raise Unusable("its description is of another kind") from error


def signed(line: bytes) -> bytes:
    """Return the line, and one with its SHA-256 checksum."""
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


class Store:
    """An open store, whose matrix is mapped, read-only, and still readable after the files are removed."""

    def __init__(self, folder: Path, manifest: Manifest, mapped: matrix.Matrix):
        self.folder = folder
        self.shape = manifest.shape
        self.dtype = np.dtype(manifest.dtype)
        self.distribution = manifest.distribution
        self.names_differ = manifest.names_differ
        self.bytes = sum(manifest.sizes.values())
        self.matrix = mapped
        self.rest = folder / METADATA
        self.replies = folder / REPLIES

    @staticmethod
    def open(folder: Path, fingerprint: str) -> Store:
        """Open the store in the folder; raises Unusable unless it is whole and has this fingerprint.

        Raises Unreadable if it cannot be read now. Only the sizes of the large arrays are checked, so that this takes
        milliseconds.
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
    """Return the SHA-256 of a file, in hexadecimal."""
    digest, piece = hashlib.sha256(), bytearray(_BLOCK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(memoryview(piece)[:count])
    return digest.hexdigest()


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MANIFEST_MAX)


def _check(folder: Path, manifest: Manifest) -> None:
    names = {*ARRAYS.get(manifest.kind, ()), METADATA}
    if manifest.dtype not in DTYPES or names != set(manifest.sizes) or names & SMALL != set(manifest.checksums):
        raise Unusable("its description is of another kind")
    for name, size in manifest.sizes.items():
        if os.stat(folder / name).st_size != size:
            raise Unusable(f"{name} is not whole")
    for name, expected in manifest.checksums.items():
        if checksum(folder / name) != expected:
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
    if not os.stat(path).st_size:  # the matrix stores no values, and an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r")
