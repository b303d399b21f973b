"""A dataset that a user may open, and its address."""

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
# RFC 3986's unreserved characters, without the tilde that starts our escapes. Every proxy on the way leaves these
# alone; jupyter-server-proxy for one decodes a path and quotes it again with `?` and `#` left bare.
PLAIN = frozenset((string.ascii_letters + string.digits + "-._/").encode())
ESCAPED = re.compile(rb"~([0-9A-Fa-f]{2})")


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


def disk_of(address: str) -> str:
    """The library of an address: the disk it lies on, as far as can be said without asking that disk."""
    return address.partition("/")[0]
