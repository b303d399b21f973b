"""The tags of replies that stay the same as long as their dataset does: made by the worker, judged by the gateway too.

A tag is made of what its reply depends on and not of the reply, so whoever knows the state of a dataset can say
whether a browser's copy is still right, without the reply and without the worker.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

OPTIONS_BESIDE = ".cxg.yaml"  # the end of the name of the file of options beside a dataset
PRIVATE = "private, no-cache"  # keep it for this user only, and ask again each time

_MAX_HEADER_LENGTH = 8192  # characters of If-None-Match; a browser sends the one tag it has
# RFC 9110, section 8.8.3; a tag of the list may be empty (section 5.6.1).
_TAG = re.compile(r'[ \t]*(?:(?:W/)?"([!#-~\x80-\xff]*)")?[ \t]*(?:,|\Z)')


def digest(*parts: object) -> str:
    """One word for all of these: 24 hex digits. Parts that differ as text give another word."""
    text = "".join(f"{len(part)}:{part}" for part in map(str, parts))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).hexdigest()


def tag(state: str, target: str, accept: str) -> str:
    """The tag of the reply to a GET: `state` of its dataset, path and query as they were sent, and what is accepted.

    Which encoding was chosen does not count: the tag is a weak one.
    """
    return digest(state, target, accept)


def holds(if_none_match: str, wanted: str) -> bool:
    """Whether a list of tags names this one, weakly compared (RFC 9110, section 13.1.2).

    `*`, and whatever is no list of tags, holds none: the worker has the last word then.
    """
    if len(if_none_match) > _MAX_HEADER_LENGTH:
        return False
    found = list(_tags(if_none_match))
    return None not in found and wanted in found


def _tags(text: str) -> Iterator[str | None]:
    """The tags of a list, and None where it is not one."""
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
    """The headers of a 304, which a browser puts in the place of those it has."""
    return (("Cache-Control", PRIVATE), ("ETag", f'W/"{current}"'), ("Vary", "Accept-Encoding"))
