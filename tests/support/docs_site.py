"""The documentation as it is built, its pages taken apart, and what its sources hold: commands, code, sections."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from places import CHECKOUT

SOURCES = sorted((CHECKOUT / "docs").glob("*.md"))
# What people read elsewhere, and what the pages include.
DOCUMENTS = [
    *SOURCES,
    *(CHECKOUT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "RELEASE.md")),
    *(CHECKOUT / name for name in ("galaxy_ie/README.md", "binder/README.md")),
]
REPOSITORY = "https://github.com/cxg-proxy/cxg_proxy/blob/HEAD/"
SHOWN = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


@dataclass
class PageOfDocs(HTMLParser):
    """What a built page links to, shows and can be linked to at."""

    file: Path
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    sections: dict[str, str] = field(default_factory=dict)  # the text below each anchor of a heading
    headings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._at, self._heading = "", False
        self.feed(self.file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names."""
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named["id"]} if "id" in named else set()
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if SHOWN.get(tag) in named and named.get("rel") not in ("next", "prev", "canonical"):
            self.loaded.append(named[SHOWN[tag]])
        if re.fullmatch("h[1-4]", tag) and "id" in named:
            self._at, self._heading = named["id"], True
            self.sections[self._at] = self.headings[self._at] = ""

    def handle_endtag(self, tag: str) -> None:
        """A heading is over."""
        if re.fullmatch("h[1-4]", tag):
            self._heading = False
        if tag == "article":
            self._at = ""

    def handle_data(self, data: str) -> None:
        """Keep the text where it belongs."""
        if self._at and data != "¶":
            self.sections[self._at] += data
            if self._heading:
                self.headings[self._at] += data


@cache
def parsed(file: Path) -> PageOfDocs:
    """A page, which does not change once it is built."""
    return PageOfDocs(file)


@dataclass(frozen=True)
class Site:
    """The built documentation."""

    folder: Path
    said: str

    def page(self, name: str) -> PageOfDocs:
        """A page by the name of its file."""
        return parsed(self.folder / name)

    @property
    def names(self) -> list[str]:
        """All pages."""
        return sorted(file.name for file in self.folder.glob("*.html"))

    def leads_somewhere(self, page: str, link: str) -> bool:
        """Whether a relative link from a page leads to a file, and to an anchor in it."""
        where, anchor = urldefrag(link)
        file = (self.folder / page).parent / unquote(where) if where else self.folder / page
        if file.is_dir():
            file /= "index.html"
        return file.is_file() and (not anchor or unquote(anchor) in parsed(file).anchors)


# --- the sources ---------------------------------------------------------------------------------------------------


@cache
def fenced(document: Path) -> list[tuple[str, str]]:
    """The blocks of code of a document between fences: language and text."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, textwrap.dedent(text)) for _, language, text in found]


def blocks(language: str) -> list[tuple[str, str]]:
    """All blocks in a language, each with the document it stands in."""
    return [
        (str(document.relative_to(CHECKOUT)), text)
        for document in DOCUMENTS
        for name, text in fenced(document)
        if name == language
    ]


def command_lines(document: Path) -> Iterator[str]:
    """The lines of a document that are to be typed: indented ones, those between fences and between backquotes."""
    text = document.read_text()
    plain = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (line.strip() for line in re.findall(r"^ {4,}(.+)$", plain.replace("\\\n", " "), re.MULTILINE))
    for language, block in fenced(document):
        if language in ("", "sh", "dockerfile"):
            yield from (line.strip() for line in block.splitlines())
    yield from (re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", plain))


def typed(line: str) -> list[str]:
    """The words of a command line, without a comment; none if it is no line for a shell."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def is_elsewhere(link: str) -> bool:
    """Whether a link leads to another site."""
    return bool(urlsplit(link).scheme)
