"""The origin of a store: the matrix of one layer of one file, in the state in which the file was found."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import ChangedMeanwhile
from cxg_proxy.viewer.source import h5ad

from .store import FORMAT


@dataclass(frozen=True)
class Origin:
    """A file, the layer that stands for X (None for X itself), and the fingerprint of the file's state.

    The fingerprint names the store: 40 hexadecimal digits of a SHA-256.
    """

    path: str
    layer: str | None
    fingerprint: str

    @classmethod
    def of(cls, path: str, layer: str | None = None) -> Origin:
        """Return the origin in the file's present state; raises the Problem of a file that cannot be found."""
        try:
            return cls(path, layer, _fingerprint(path, layer, os.stat(path)))
        except OSError as error:
            raise h5ad.open_problem(path, error) from error

    @property
    def label(self) -> str:
        """The name by which the user knows the file."""
        return display_name(self.path)

    def resolved(self) -> Origin:
        """Return the origin with the path that the links on its way lead to now."""
        return replace(self, path=os.path.realpath(self.path))

    def is_unchanged(self) -> bool:
        """Whether the file at the path is still in the same state."""
        try:
            self.check_unchanged()
        except ChangedMeanwhile:
            return False
        return True

    def check_unchanged(self, status: os.stat_result | None = None) -> None:
        """Raise ChangedMeanwhile unless the file is in the same state; `status` is that of the file if it is open."""
        try:
            fingerprint = _fingerprint(self.path, self.layer, status or os.stat(self.path))
        except OSError as error:
            raise ChangedMeanwhile(self.label, detail=error.strerror or str(error)) from error
        if fingerprint != self.fingerprint:
            raise ChangedMeanwhile(self.label)


def _fingerprint(path: str, layer: str | None, status: os.stat_result) -> str:
    # The path is in bytes, since a file name need not be text.
    parts = [FORMAT, os.fsencode(os.path.realpath(path)), status.st_size, status.st_mtime_ns, status.st_ino, layer]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]
