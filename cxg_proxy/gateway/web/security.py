"""Who may ask for what: the gateway's token, requests from other sites, and the headers that bind a browser."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from cxg_proxy.errors import Refused

DRAIN_LIMIT = 1_000_000_000  # so many bytes of a refused request are read and dropped, then the connection ends
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # The viewer's logo is asked for one level too high; its Referer says by which viewer.
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
    """Raise Refused unless a request that changes something comes from our own pages.

    Browsers say where a request comes from: Sec-Fetch-Site, or Origin in older ones. A client that says neither is no
    browser's page; it must hold a token, which no foreign page can make a browser send.
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
    """The length of the body as its sender says: 0 if it says none, None if what it says is no number."""
    length = headers.get("Content-Length", "0").strip()
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None


def announces_body(headers: Mapping[str, str]) -> bool:
    """Whether something follows the headers."""
    return "Transfer-Encoding" in headers or declared_length(headers) != 0


def worth_draining(headers: Mapping[str, str]) -> bool:
    """Whether a refusal waits for the body, which is dropped: whoever is cut off while sending sees no reply."""
    length = declared_length(headers)
    return "Transfer-Encoding" in headers or (length is not None and 0 < length <= DRAIN_LIMIT)


def same(secret: str, said: str) -> bool:
    """Compare without telling by the time taken how much was right."""
    return bool(secret) and hmac.compare_digest(secret.encode(), said.encode(errors="replace"))


def prefix(headers: Mapping[str, str], name: str) -> str:
    """The path below which a proxy shows us, as its header says; "/" if there is none, or none that can be one."""
    said = headers.get(name, "") if name else ""
    return said.rstrip("/") + "/" if _PREFIX.fullmatch(said) else "/"


def over_https(headers: Mapping[str, str]) -> bool:
    """Whether the first proxy on the way was asked by https, as far as it says; who lies there only harms himself."""
    return headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower() == "https"


def bearer(headers: Mapping[str, str]) -> str:
    """The token in `Authorization: token …` or `Bearer …`, "" if there is none."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() in ("token", "bearer") else ""
