"""The compression of replies, in the encoding that the client likes best and never in one that it refuses."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

from flask_compress.compat import compression
from werkzeug.datastructures import Accept

ALL = ("zstd", "br", "gzip", "deflate")
# The encodings of replies that are compressed once for all visitors. For 100,000 cells zstd at level 9 is as small as
# brotli at level 5, in less time (an embedding: 740 kB in 11 ms, a category: 105 kB in 16 ms), so brotli is not kept.
# Clients without zstd get gzip, at 26 to 190 ms a reply; over plain http browsers accept nothing better.
KEPT = ("zstd", "gzip")
IDENTITY = "identity"
_ZSTD_LEVEL = 9
_GZIP_LEVEL = 6


def chosen(accepted: Accept, offered: Sequence[str] = ALL) -> str:
    """Return the `offered` encoding that the client prefers, or `identity` (RFC 9110, section 12.5.3)."""
    best = max(offered, key=accepted.quality)  # the first of equals
    quality = accepted.quality(best)
    return best if quality > 0 and quality >= accepted.quality(IDENTITY) else IDENTITY


def pack(content: bytes, encoding: str) -> bytes:
    """Compress the content in one of the `KEPT` encodings; equal content always gives equal bytes."""
    if encoding == "zstd":
        return bytes(compression.zstd.compress(content, _ZSTD_LEVEL))
    return gzip.compress(content, _GZIP_LEVEL, mtime=0)
