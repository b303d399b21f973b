"""What Galaxy's own tool and ours do, row by row of the README's table."""

from __future__ import annotations

from collections.abc import Callable

from galaxy_files import OURS, PLAIN, TOOLS
from progress import say, step

README = (TOOLS / "README.md").read_text()


def ours_and_plain(row: str, observe: Callable[[str], str]) -> None:
    """Observe both, and find what was seen in the README's table."""
    with step(f"observing: {row}"):
        seen = [observe(tool) for tool in (OURS, PLAIN)]
    line = f"| {row} | {' | '.join(seen)} |"
    say(line)
    assert line in README
