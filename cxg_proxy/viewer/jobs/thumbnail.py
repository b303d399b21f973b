"""The thumbnail of one embedding: a sample of cells at integer coordinates, in the colours that cellxgene would use."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

_CELLS_MAX = 2000
_SIDE = 1000
_WINDOW_ROWS = 1 << 20
_FEW_LABELS = range(2, 51)
_PREFERRED = ("umap", "tsne")


def draw(file: Any, embeddings: list[str], categories: list[tuple[str, Any, Any]], cells: int) -> dict[str, Any] | None:
    """Return the thumbnail as plain numbers, or None if no sampled cell has finite coordinates.

    At most 2000 cells are drawn, with coordinates from 0 to 1000. A UMAP is preferred, then a t-SNE, then the first
    embedding.
    """
    embedding = next((name for name in _PREFERRED if name in embeddings), embeddings[0])
    chosen = np.unique(np.linspace(0, cells - 1, min(cells, _CELLS_MAX)).astype(np.int64))
    points = _rows(file["obsm"][f"X_{embedding}"], chosen, columns=2).astype(np.float64)
    seen = np.isfinite(points).all(axis=1)
    points, chosen = points[seen], chosen[seen]
    if not len(points):
        return None
    category, color, palette = _colors(file, categories, chosen)
    x, y = _fitted(points)
    return {"embedding": embedding, "category": category, "x": x, "y": y, "color": color, "palette": palette}


def _rows(array: Any, chosen: Any, columns: int | None = None) -> Any:
    """Read the chosen rows, whose numbers rise, window by window so that memory stays bounded."""
    parts = []
    windows = chosen // _WINDOW_ROWS
    for window in np.unique(windows):
        rows = chosen[windows == window]
        start, stop = int(rows[0]), int(rows[-1]) + 1
        block = array[start:stop] if columns is None else array[start:stop, :columns]
        parts.append(block[rows - start])
    return np.concatenate(parts)


def _fitted(points: Any) -> tuple[list[int], list[int]]:
    """Return the coordinates as integers, with both axes on one scale and centred in the square."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) or 1.0
    placed = np.rint(((points - (low + high) / 2) / extent + 0.5) * _SIDE).astype(int)
    return placed[:, 0].tolist(), placed[:, 1].tolist()


def _colors(file: Any, categories: list[tuple[str, Any, Any]], chosen: Any) -> tuple[str | None, list[int], list[str]]:
    """Return the category shown, each cell's index into the palette (-1 for no label), and the palette."""
    usable = [one for one in categories if _is_usable(one[1], one[2], int(chosen[-1]))]
    few = [one for one in usable if one[2].shape[0] in _FEW_LABELS]
    if not usable:
        return None, [-1] * len(chosen), []
    name, codes, labels = (few or usable)[0]
    count = int(labels.shape[0])
    color = _rows(codes, chosen).astype(np.int64)
    color[(color < 0) | (color >= count)] = -1
    return name, color.tolist(), _own_palette(file, name, count) or [rainbow(i / count) for i in range(count)]


def _is_usable(codes: Any, labels: Any, last: int) -> bool:
    arrays = isinstance(codes, h5py.Dataset) and isinstance(labels, h5py.Dataset)
    if not arrays or codes.ndim != 1 or labels.ndim != 1 or codes.dtype.kind not in "iu":
        return False
    return bool(codes.shape[0] > last and 0 < labels.shape[0] <= 10_000)


def _own_palette(file: Any, category: str, count: int) -> list[str]:
    """Return the file's colours for the labels, or [] unless there are enough and cellxgene can convert them all."""
    uns = file.get("uns")
    colors = uns.get(f"{category}_colors") if isinstance(uns, h5py.Group) else None
    if not isinstance(colors, h5py.Dataset) or colors.ndim != 1 or not count <= colors.shape[0] <= 10_000:
        return []
    # cellxgene's table of colour names is loaded only for files that have colours.
    from server.common.colors import convert_color_to_hex_format  # noqa: PLC0415 - see above
    from server.common.errors import ColorFormatException  # noqa: PLC0415 - see above

    try:
        texts = [c.decode() if isinstance(c, bytes) else str(c) for c in colors[:count]]
        return [convert_color_to_hex_format(text) for text in texts]
    except (ColorFormatException, UnicodeDecodeError):
        return []


def rainbow(share: float) -> str:
    """Return d3's interpolateRainbow of `share` (0 to 1) as "#rrggbb": cellxgene's colours for labels without any."""
    distance = abs(share - 0.5)
    hue = math.radians(360 * share - 100 + 120)
    light = 0.8 - 0.9 * distance
    amount = (1.5 - 1.5 * distance) * light * (1 - light)
    cosine, sine = math.cos(hue), math.sin(hue)
    rgb = (
        light + amount * (-0.14861 * cosine + 1.78277 * sine),
        light + amount * (-0.29227 * cosine - 0.90649 * sine),
        light + amount * 1.97294 * cosine,
    )
    return "#" + "".join(f"{min(255, max(0, round(255 * part))):02x}" for part in rgb)
