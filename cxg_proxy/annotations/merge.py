"""The merge of what two writers made of one file, so that neither silently loses what the other one added.

Each writer passes what it has seen: a digest of every column as it last read or wrote it. A column that only one of
them has changed since then is taken from that writer. A column that both have changed is taken from the latest writer,
and its name is reported.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .tables import (
    UNASSIGNED,
    GeneSet,
    LabelTable,
    aligned,
    comments,
    gene_sets_csv,
    labels_csv,
    read_gene_sets,
    read_labels,
)

MAX_PARTS = 400  # columns in the text of a `SeenState`: it is sent as a request header, whose length proxies limit

_DIGEST_BYTES = 6
_DIGEST = 8  # letters
_TEXT = re.compile(rf"([\w-]{{16}})?:((?:[\w-]{{16}}){{0,{MAX_PARTS}}})", re.ASCII)

Part = TypeVar("Part", GeneSet, tuple[str, ...])


@dataclass(frozen=True)
class SeenState:
    """The state in which a writer last read or wrote a file."""

    whole: str = ""  # digest of the file, if the writer has seen all of it
    parts: Mapping[str, str] = field(default_factory=dict)  # digest of a column's name → digest of its content
    some_cells: bool = False  # whether there are other cells, whose rows stay though the writer's table lacks them

    @classmethod
    def of(cls, columns: Mapping[str, Any], whole: str = "") -> SeenState:
        """Make the state of a writer that has seen these columns: gene sets, or labels in the order of the cells."""
        return cls(whole, {_digest(name): _content(part) for name, part in columns.items()})

    def of_part(self, name: str) -> str | None:
        """Return the digest of a column as it was last seen, or None if it did not exist then."""
        return self.parts.get(_digest(name))

    def only(self, names: Iterable[str]) -> SeenState:
        """Restrict the state to some columns."""
        wanted = {_digest(name) for name in names}
        return replace(self, parts={name: part for name, part in self.parts.items() if name in wanted})

    def __str__(self) -> str:
        """Return text for a header: the digest of the file, a colon, and 16 letters for each column.

        With more than `MAX_PARTS` columns, none of them is included.
        """
        parts = self.parts if len(self.parts) <= MAX_PARTS else {}
        return self.whole + ":" + "".join(name + part for name, part in parts.items())

    @classmethod
    def from_text(cls, text: str) -> SeenState:
        """Read a state from the text that `str` makes; text that cannot be read becomes the empty state."""
        match = _TEXT.fullmatch(text)
        if match is None:
            return cls()
        pieces = re.findall(".{16}", match[2])
        return cls(match[1] or "", {piece[:_DIGEST]: piece[_DIGEST:] for piece in pieces})


@dataclass(frozen=True)
class Merged:
    """The merged file to write, and how it differs from what the writer sent."""

    content: bytes
    kept: tuple[str, ...] = ()  # columns taken from the file: another writer added or changed them
    removed: tuple[str, ...] = ()  # columns left out because another writer removed them
    replaced: tuple[str, ...] = ()  # columns that another writer had changed too
    left_behind: int = 0  # number of labelled cells in the file that the writer's table lacks

    @property
    def is_mine(self) -> bool:
        """Whether the writer knows all that is in the file now."""
        return not self.kept and not self.removed


def merge_labels(mine: bytes, theirs: bytes, seen: SeenState, cells: tuple[str, ...] = ()) -> Merged:
    """Merge two tables of labels; raises Malformed.

    The result has the cells of `mine` in their order; if `mine` has no categories, it has the `cells` of the
    dataset. If the writer knows only some of the cells, the result has the cells of both tables.
    """
    my_table, their_table = read_labels(mine), read_labels(theirs)
    if seen.some_cells and (both := _all_cells(my_table.cells, their_table.cells)) != my_table.cells:
        my_table = LabelTable(my_table.index, both, aligned(my_table, both))
        mine = comments(mine) + labels_csv(my_table).encode()
    if not my_table.columns:  # every category was removed, so the table has no cells either
        my_table = LabelTable(their_table.index, cells or their_table.cells)
    joined = _Joined(my_table.columns, aligned(their_table, my_table.cells), seen)
    table = LabelTable(my_table.index, my_table.cells, joined.parts)
    return joined.merged(mine, labels_csv(table) if table.columns else "", _left_behind(their_table, my_table.cells))


def merge_gene_sets(mine: bytes, theirs: bytes, seen: SeenState) -> Merged:
    """Merge two files of gene sets; raises Malformed."""
    joined = _Joined(read_gene_sets(mine), read_gene_sets(theirs), seen)
    return joined.merged(mine, gene_sets_csv(joined.parts.values()))


class _Joined:
    """The merged columns by name, and which writer each comes from."""

    def __init__(self, mine: Mapping[str, Any], theirs: Mapping[str, Any], seen: SeenState):
        self._kept: list[str] = []
        self._removed: list[str] = []
        self._replaced: list[str] = []
        self._seen = seen
        chosen = ((name, self._choose(name, mine.get(name), theirs.get(name))) for name in {**mine, **theirs})
        self.parts = {name: part for name, part in chosen if part is not None}

    def _choose(self, name: str, mine: Part | None, theirs: Part | None) -> Part | None:
        if mine == theirs:
            return mine
        before = self._seen.of_part(name)
        if before == (None if theirs is None else _content(theirs)):
            return mine  # only this writer has changed, added or removed it
        if mine is None or _content(mine) == before:
            (self._removed if theirs is None else self._kept).append(name)
            return theirs
        if theirs is not None:
            self._replaced.append(name)
        return mine

    def merged(self, mine: bytes, text: str, left_behind: int = 0) -> Merged:
        is_mine = not self._kept and not self._removed
        content = mine if is_mine else comments(mine) + text.encode()
        return Merged(content, tuple(self._kept), tuple(self._removed), tuple(self._replaced), left_behind)


def _all_cells(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cells of both tables, in the order of the dataset as far as one of the tables has it."""
    first, second = (theirs, mine) if set(mine) <= set(theirs) else (mine, theirs)
    return tuple(dict.fromkeys((*first, *second)))


def _left_behind(table: LabelTable, cells: tuple[str, ...]) -> int:
    if table.cells == cells:
        return 0
    present = set(cells)
    rows = [row for row, cell in enumerate(table.cells) if cell not in present]
    return sum(any(labels[row] != UNASSIGNED for labels in table.columns.values()) for row in rows)


def _content(part: GeneSet | tuple[str, ...]) -> str:
    return _digest("\0".join(_texts(part)))


def _texts(part: GeneSet | tuple[str, ...]) -> Iterator[str] | tuple[str, ...]:
    if isinstance(part, tuple):
        return part
    return iter((part.name, part.description, *(text for gene in part.genes for text in gene)))


def _digest(text: str) -> str:
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=_DIGEST_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()
