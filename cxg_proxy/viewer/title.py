"""What `ps` and `top` show of a process that was forked, so that an administrator can tell one worker from another.

The system shows the bytes where the command line lay when the program was started. What is longer than there is room
for would run into what lies behind, so the parent is started with a last argument of blanks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def show(arguments: Sequence[str]) -> None:
    """Show these arguments of ours; where the system does not allow it, what it shows stays as it is."""
    try:
        with open("/proc/self/stat", "rb") as stat, open("/proc/self/mem", "r+b", buffering=0) as memory:
            # proc(5): fields 48 and 49 are where the command line begins and ends; behind the name, the first is 3.
            begin, end = map(int, stat.read().rpartition(b")")[2].split()[45:47])
            memory.seek(begin)
            memory.write(_padded(arguments, end - begin))
    except (OSError, ValueError, IndexError):
        return


def _padded(arguments: Sequence[str], room: int) -> bytes:
    """The arguments in exactly `room` bytes; where they are too long, their end stays: it names the dataset."""
    start, rest = (
        os.fsencode(" ".join([sys.executable, "-m", "cxg_proxy.viewer", *arguments[:1]])),
        os.fsencode(" ".join(["", *arguments[1:]])),
    )
    start, rest = (text.replace(b"\0", b" ") for text in (start, rest))
    free = room - 2 - len(start)
    if free < 0:
        raise ValueError("no room")
    if len(rest) > free:
        rest = rest[len(rest) - free :]
    # A last byte that is not 0 tells the system that this is one text, which ends at the first 0.
    return (start + rest).ljust(room - 1, b"\0") + b"."
