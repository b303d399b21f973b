"""Pages of mapped files, given back when they have been looked at: until then they count as this process's memory.

What the system remembers of a file stays where it is. To look at it again costs a fraction of a millisecond a megabyte.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Linux maps what is around a page, too: 64 KB, and all of the large page of its cache that this reaches into.
_AROUND, _LARGE = 1 << 16, 1 << 21


def give_back(*arrays: NDArray[Any]) -> None:
    """Give back the pages that arrays lie on; who looks at one meanwhile just has it mapped again."""
    for array in arrays:
        held = _mapping(array)
        if held is not None and array.nbytes:
            begin = _address(array) - _address(np.frombuffer(held, np.uint8))
            first = max(0, begin - _AROUND) // _LARGE * _LARGE
            end = min(len(held), -(-(begin + array.nbytes + _AROUND) // _LARGE) * _LARGE)
            held.madvise(mmap.MADV_DONTNEED, first, end - first)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """What an array is a part of, if that is a file that cannot be written to: of others, it would lose what is new."""
    holder: Any = array
    while isinstance(holder, np.ndarray) and not holder.flags.writeable:
        holder = holder.base
    if isinstance(holder, memoryview):
        holder = holder.obj
    return holder if isinstance(holder, mmap.mmap) else None


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
