"""The links with which people come to the demo on Binder, from the document that holds them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENT = CHECKOUT / "binder" / "README.md"


def links(document: Path) -> list[str]:
    """The links to a Binder in a document, in its order, each once; none of a reader's own repository."""
    found = re.findall(r"https://mybinder\.org/v2/[^\s)>\"`]+", document.read_text())
    return list(dict.fromkeys(link for link in found if "<" not in link))


def urlpath(link: str) -> str:
    """Where in the visitor's server a link leads to."""
    return parse_qs(urlsplit(link).query)["urlpath"][0]


VIEWER, NOTEBOOK = map(urlpath, links(DOCUMENT))
