"""The security of requests: the gateway's token, requests from other sites, and the headers that restrict a browser."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from cxg_proxy.errors import Refused

DRAIN_LIMIT = 1_000_000_000  # bytes of a refused request that are read and dropped before the connection ends
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # The viewer's logo is requested one level too high; the Referer header names the viewer.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
UNKNOWN_FORM = "its form has no token, or that of an earlier run"
FRAMES = "frame-ancestors 'self'"
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    f"form-action 'self'; base-uri 'none'; {FRAMES}"
)
_PREFIX = re.compile(r"(/[A-Za-z0-9_.~%-]+)+/?")


def refuse_other_sites(headers: Mapping[str, str], *, token_seen: bool) -> None:
    """Raise Refused unless a request that changes something comes from the gateway's own pages.

    Browsers report where a request comes from: in Sec-Fetch-Site, or in Origin if they are older. A client that sends
    neither is not a page in a browser; it must hold a token, which no foreign page can make a browser send.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        if site != "same-origin":
            raise Refused(detail=f"it came from a page that is {site}")
    elif origin is not None:
        if urlsplit(origin).netloc.lower() != headers.get("Host", "").lower():
            raise Refused(detail=f"it came from {origin[:200]}")
    elif not token_seen:
        raise Refused(detail="it says neither its origin nor a token")


def declared_length(headers: Mapping[str, str]) -> int | None:
    """Return the length of the body that the sender declares: 0 if none is, None if it is not a number."""
    length = headers.get("Content-Length", "0").strip()
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None


def announces_body(headers: Mapping[str, str]) -> bool:
    """Whether a body follows the headers."""
    return "Transfer-Encoding" in headers or declared_length(headers) != 0


def worth_draining(headers: Mapping[str, str]) -> bool:
    """Whether a refusal waits for the body, which is dropped: a client cut off while sending sees no reply."""
    length = declared_length(headers)
    return "Transfer-Encoding" in headers or (length is not None and 0 < length <= DRAIN_LIMIT)


def equal_secrets(secret: str, candidate: str) -> bool:
    """Whether both are equal and not empty; the time that this takes does not show how much was right."""
    return bool(secret) and hmac.compare_digest(secret.encode(), candidate.encode(errors="replace"))


def prefix(headers: Mapping[str, str], name: str) -> str:
    """Return the path below which a proxy shows the gateway, from its header; "/" if that is missing or invalid."""
    path = headers.get(name, "") if name else ""
    return path.rstrip("/") + "/" if _PREFIX.fullmatch(path) else "/"


def over_https(headers: Mapping[str, str]) -> bool:
    """Whether the first proxy on the way was reached by https, as far as reported; a lie harms only its sender."""
    return headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower() == "https"


def bearer(headers: Mapping[str, str]) -> str:
    """Return the token in `Authorization: token …` or `Bearer …`, or "" if there is none."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() in ("token", "bearer") else ""
