"""The documentation site: its built pages, parsed, and the commands and code blocks in its sources."""

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
# Documents outside the site: people read them elsewhere, or pages include them.
DOCUMENTS = [
    *SOURCES,
    *(CHECKOUT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "RELEASE.md")),
    *(CHECKOUT / name for name in ("galaxy_ie/README.md", "binder/README.md")),
]
REPOSITORY = "https://github.com/cxg-proxy/cxg_proxy/blob/HEAD/"
SHOWN = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}


@dataclass
class PageOfDocs(HTMLParser):
    """A built page, parsed: its links, its loaded files, its anchors and its sections."""

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
        """Collect the anchors, links and files that a tag names."""
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
        """Note the end of a heading or of the article."""
        if re.fullmatch("h[1-4]", tag):
            self._heading = False
        if tag == "article":
            self._at = ""

    def handle_data(self, data: str) -> None:
        """Add the text to its section, and to its heading."""
        if self._at and data != "¶":
            self.sections[self._at] += data
            if self._heading:
                self.headings[self._at] += data


@cache
def parsed(file: Path) -> PageOfDocs:
    """Parse a page, once, since a built page does not change."""
    return PageOfDocs(file)


@dataclass(frozen=True)
class Site:
    """The built documentation."""

    folder: Path
    said: str

    def page(self, name: str) -> PageOfDocs:
        """Return a page by its file name."""
        return parsed(self.folder / name)

    @property
    def names(self) -> list[str]:
        """The file names of all pages."""
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
    """Return the fenced code blocks of a document: language and text."""
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return [(language, textwrap.dedent(text)) for _, language, text in found]


def blocks(language: str) -> list[tuple[str, str]]:
    """Return all code blocks in a language, each with the name of its document."""
    return [
        (str(document.relative_to(CHECKOUT)), text)
        for document in DOCUMENTS
        for name, text in fenced(document)
        if name == language
    ]


def command_lines(document: Path) -> Iterator[str]:
    """Yield the lines of a document that a reader may type: indented, fenced or between backquotes."""
    text = document.read_text()
    plain = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (line.strip() for line in re.findall(r"^ {4,}(.+)$", plain.replace("\\\n", " "), re.MULTILINE))
    for language, block in fenced(document):
        if language in ("", "sh", "dockerfile"):
            yield from (line.strip() for line in block.splitlines())
    yield from (re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", plain))


def typed(line: str) -> list[str]:
    """Return the words of a command line without its comment, or no words if a shell could not parse it."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def is_elsewhere(link: str) -> bool:
    """Whether a link leads to another site."""
    return bool(urlsplit(link).scheme)
