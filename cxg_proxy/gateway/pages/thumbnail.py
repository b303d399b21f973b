"""The thumbnail on a dataset's card: a sample of its cells as SVG, small enough to be sent in one piece.

The data comes from a file that anybody may have written, so every value is checked here; only numbers and colours reach
the picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

CELLS = 2000  # more would only make the picture heavier, not clearer
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_UNKNOWN = "#8a949e"  # readable on white and on black
_SHAPE = 4 / 3


def draw(preview: dict[str, Any]) -> str:
    """Return the SVG picture, 4:3 and transparent, of a summary's preview; it is empty if nothing can be drawn."""
    groups = _groups(preview)
    cells = [cell for group in groups.values() for cell in group]
    left, top, width, height, radius = _frame(cells)
    # The most frequent colour is drawn lowest, so that a rare kind of cell is not hidden.
    paths = (
        f'<path stroke="{colour}" d="{"".join(f"M{x} {y}h0" for x, y in group)}"/>'
        for colour, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:g} {top:g} {width:g} {height:g}"'
        ' width="400" height="300">'
        f'<g fill="none" stroke-linecap="round" stroke-width="{2 * radius:.3g}" stroke-opacity=".85">'
        f"{''.join(paths)}</g></svg>"
    )


def _groups(preview: dict[str, Any]) -> dict[str, set[tuple[int, int]]]:
    """Return the positions of the cells by colour, with y pointing down."""
    palette = _items(preview.get("palette"))
    groups: dict[str, set[tuple[int, int]]] = {}
    cells = zip(_items(preview.get("x")), _items(preview.get("y")), _items(preview.get("color")), strict=False)
    for x, y, index in islice(cells, CELLS):
        if not (_is_place(x) and _is_place(y)):
            continue
        groups.setdefault(_colour(palette, index), set()).add((x, 1000 - y))
    return groups


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _is_place(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 1000


def _colour(palette: Sequence[Any], index: Any) -> str:
    colour = palette[index] if type(index) is int and 0 <= index < len(palette) else None
    return colour if isinstance(colour, str) and _COLOUR.fullmatch(colour) else _UNKNOWN


def _frame(cells: list[tuple[int, int]]) -> tuple[float, float, float, float, float]:
    """Return left, top, width and height of a 4:3 frame around the cells, and a radius that suits their number."""
    if not cells:
        return 0, 0, 1000 * _SHAPE, 1000, 0
    xs, ys = [x for x, _ in cells], [y for _, y in cells]
    height = max((max(xs) - min(xs)) / _SHAPE, max(ys) - min(ys), 100)
    radius = height * min(0.02, 0.28 / len(cells) ** 0.5)
    height += 4 * radius
    width = height * _SHAPE
    return (min(xs) + max(xs) - width) / 2, (min(ys) + max(ys) - height) / 2, width, height, radius
