"""The headers of the worker's replies, which set what a browser may run and cache."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import Request, Response

from cxg_proxy.etags import PRIVATE

_FOREVER = "private, max-age=31536000, immutable"
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
_HASHED_NAME = re.compile(r"-[0-9a-f]{20,}\.\w+$")


def content_security_policy(page: bytes, scripts: Iterable[Any]) -> str:
    """Return the policy for cellxgene's page: its own files and inline scripts, and the configured scripts."""
    hashes = [_hash(script) for script in _INLINE_SCRIPT.findall(page)]
    origins = sorted({origin for script in scripts if (origin := _origin(script))})
    policy = {
        "default-src": ["'self'"],
        # cellxgene draws with regl, which compiles its drawing commands with Function().
        "script-src": ["'self'", "'unsafe-eval'", *hashes, *origins],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:", *origins],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'", *origins],
        "worker-src": ["'self'", "blob:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'self'"],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items())


def _hash(script: bytes) -> str:
    # Browsers hash the text from the HTML parser, in which line ends are line feeds.
    text = script.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


def _origin(script: Any) -> str:
    parts = urlsplit(script["src"] if isinstance(script, dict) else script)
    if not parts.netloc:
        return ""
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme else parts.netloc


def add(request: Request, response: Response) -> None:
    """Set the headers that every reply carries."""
    is_file = request.endpoint == "static_assets" and response.status_code == 200
    response.headers["Cache-Control"] = _FOREVER if is_file and _HASHED_NAME.search(request.path) else PRIVATE
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
