"""Entity tags of replies that change only with their dataset: the worker sets them, and the gateway checks them too.

A tag is computed from what its reply depends on, not from the reply itself. So anyone who knows the state of a dataset
can decide whether a browser's copy is still valid, without the reply and without the worker.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

OPTIONS_BESIDE = ".cxg.yaml"  # suffix of the options file beside a dataset
PRIVATE = "private, no-cache"  # cache for this user only, and revalidate each time

_MAX_HEADER_LENGTH = 8192  # characters of If-None-Match; a browser sends only the one tag it has
# RFC 9110, section 8.8.3; an element of the list may be empty (section 5.6.1).
_TAG = re.compile(r'[ \t]*(?:(?:W/)?"([!#-~\x80-\xff]*)")?[ \t]*(?:,|\Z)')


def digest(*parts: object) -> str:
    """Return one digest of all parts, 24 hex digits. Parts that differ as text give different digests."""
    text = "".join(f"{len(part)}:{part}" for part in map(str, parts))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()


def tag(state: str, target: str, accept: str) -> str:
    """Return the tag of the reply to a GET.

    It covers the dataset's `state`, the path and query as sent (`target`), and the accepted types (`accept`). The
    chosen encoding does not count: the tag is a weak one.
    """
    return digest(state, target, accept)


def holds(if_none_match: str, wanted: str) -> bool:
    """Whether a list of tags contains `wanted`, by weak comparison (RFC 9110, section 13.1.2).

    False for `*` and for anything that is not a list of tags: the worker decides then.
    """
    if len(if_none_match) > _MAX_HEADER_LENGTH:
        return False
    found = list(_tags(if_none_match))
    return None not in found and wanted in found


def _tags(text: str) -> Iterator[str | None]:
    """Yield the tags of a list, and None where the text is not a list of tags."""
    end = 0
    while end < len(text):
        match = _TAG.match(text, end)
        if match is None:
            yield None
            return
        end = match.end()
        if match[1] is not None:
            yield match[1]


def not_modified(current: str) -> Iterable[tuple[str, str]]:
    """Return the headers of a 304, with which a browser replaces those it has."""
    return (("Cache-Control", PRIVATE), ("ETag", f'W/"{current}"'), ("Vary", "Accept-Encoding"))
