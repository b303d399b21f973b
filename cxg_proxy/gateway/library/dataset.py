"""A dataset that a user may open, with the address for its links."""

from __future__ import annotations

import hashlib
import os
import re
import string
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote_to_bytes

SUFFIX = ".h5ad"
# RFC 3986's unreserved characters and the slash, without the tilde, which starts an escape. Every proxy on the way
# leaves these unchanged; jupyter-server-proxy, for one, decodes a path and quotes it again but leaves `?` and `#`
# unquoted.
PLAIN = frozenset((string.ascii_letters + string.digits + "-._/").encode())
ESCAPED = re.compile(rb"~([0-9A-Fa-f]{2})")


def escape(name: str) -> str:
    """Return a name or path as an address of unreserved characters: every other byte becomes `~` and two hex digits."""
    return "".join(chr(byte) if byte in PLAIN else f"~{byte:02X}" for byte in os.fsencode(name))


def unescape(address: str) -> str:
    """Return the name that `escape` was given; text that is not such an escape stays as it is."""
    return os.fsdecode(ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(address)))


def possible_names(address: str) -> tuple[str, ...]:
    """Return the names that an address may mean: first with `escape` undone, then only percent-decoded.

    A person may have typed the percent-encoded form.
    """
    plain = os.fsdecode(unquote_to_bytes(address))
    unescaped = unescape(plain)
    return (unescaped,) if unescaped == plain else (unescaped, plain)


@dataclass(frozen=True)
class Dataset:
    """One .h5ad file as it was found: `path` is relative to its library, and `real` is the path without symlinks."""

    library: str
    path: str
    file: Path
    real: Path
    bytes: int
    modified_ns: int
    inode: int
    remote: bool = False  # the file is the copy of a dataset at a remote address; it may not exist yet

    @cached_property
    def exists(self) -> bool:
        """Whether the file exists on this machine; if not, its size is unknown."""
        return not self.remote or self.inode != 0

    @cached_property
    def name(self) -> str:
        """The name shown to people, `<library>/<path>`."""
        return f"{self.library}/{self.path}"

    @cached_property
    def label(self) -> str:
        """The file's name without its suffix."""
        return self.path.rpartition("/")[2][: -len(SUFFIX)]

    @cached_property
    def folder(self) -> str:
        """The name of the folder that the file lies in, beginning with the library."""
        return self.name.rpartition("/")[0]

    @cached_property
    def address(self) -> str:
        """The name, escaped for use in a link."""
        return escape(self.name)

    @cached_property
    def fingerprint(self) -> tuple[str, int, int, int]:
        """The values that change whenever the file does: its real path, size, modification time and inode."""
        return (str(self.real), self.bytes, self.modified_ns, self.inode)

    @cached_property
    def version(self) -> str:
        """The fingerprint as a short hexadecimal digest, which a page can hold."""
        return hashlib.blake2b(repr(self.fingerprint).encode(errors="replace"), digest_size=8).hexdigest()


def disk_of(address: str) -> str:
    """Return the library of an address, which identifies its disk as far as possible without accessing that disk."""
    return address.partition("/")[0]
