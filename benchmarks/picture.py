"""The picture of the table: a pair of bars for each chosen figure, plain cellxgene against cxg-proxy."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PLAIN, OURS, INK = "#b9bec6", "#2f7d5b", "#2b2f36"
BARS = {
    "times": {
        "first": "first opening",
        "later": "later openings",
        "real": "700 cells, later openings",
        "gene": "one gene",
        "set": "mean of 200 genes",
        "little": "compare {little:,} with {little:,} cells",
        "large": "compare {large:,} with {large:,} cells",
        "users_last": "{users} users compare at once",
    },
    "memory": {
        "large_memory": "more during a comparison",
        "private": "private memory of a viewer",
        "users_memory": "{users} users, in total",
    },
}
SECONDS = {"s": 1.0, "ms": 1e-3}
BYTES = {"GB": 1e9, "MB": 1e6}
LEAST = {"s": 1e-3, "ms": 1e-3, "GB": 1e7, "MB": 1e7}  # the start of the scale, since a logarithmic one has no zero


def draw(kept: Path, into: Path) -> None:
    """Draw the figures that `table.keep` has written."""
    import matplotlib as mpl  # noqa: PLC0415 - takes a second
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    content = json.loads(kept.read_text())
    found = {each["key"]: each for row in content["rows"] for each in row["figures"]}
    mpl.rcParams.update({"svg.hashsalt": "cxg-proxy", "font.size": 9, "svg.fonttype": "none"})
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    panels = figure.subplots(2, 1, height_ratios=[len(BARS["times"]) + 1, len(BARS["memory"]) + 1])
    for panel, part, units, said in zip(panels, BARS, (SECONDS, BYTES), (_time, _size), strict=True):
        _panel(panel, found, {key: name.format(**content["plan"]) for key, name in BARS[part].items()}, units, said)
    panels[0].set_title(content["dataset"], loc="left", color=INK)
    handles = [Patch(color=PLAIN, label="plain cellxgene"), Patch(color=OURS, label="cxg-proxy")]
    panels[0].legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    into.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(into, metadata={"Date": None} if into.suffix == ".svg" else None)


def _panel(panel: Any, found: dict[str, Any], names: dict[str, str], units: dict[str, float], say: Any) -> None:
    """Draw horizontal bars on a logarithmic scale, each with its value; a missing figure has no bar."""
    least = min(LEAST[unit] for unit in units)
    for place, key in enumerate(names):
        for above, side, colour in ((-0.2, "plain", PLAIN), (0.2, "ours", OURS)):
            value = found[key][side]
            if value is None:
                panel.text(least, place + above, " not measured", va="center", color=INK, style="italic")
                continue
            value *= units[found[key]["unit"]]
            length = max(value, 1.1 * least)
            panel.barh(place + above, length, 0.38, color=colour)
            panel.text(length, place + above, f" {say(value)}", va="center", color=INK)
    panel.set_xscale("log")
    panel.margins(x=0.12)
    panel.set_xlim(left=least)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_yticks(range(len(names)), list(names.values()))
    panel.xaxis.set_major_formatter(lambda value, _: say(value))
    panel.tick_params(length=0, which="both", colors=INK)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _size(size: float) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the picture of a finished run.")
    parser.add_argument("kept", type=Path, help="build/bench/viewer.json")
    parser.add_argument("into", type=Path, help="an .svg or .png")
    told = parser.parse_args()
    draw(told.kept, told.into)


if __name__ == "__main__":
    main()
