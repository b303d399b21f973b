"""The range of a matrix's values, from which cellxgene guesses whether they are counts or normally distributed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_VALUES = 1 << 22
_COUNT_RANGE = 24  # of `server.common.compute.estimate_distribution`


class ValueRange:
    """The smallest and the largest of all finite stored values; a sparse matrix stores no zeros."""

    def __init__(self) -> None:
        self.least: Any = None
        self.most: Any = None

    def add(self, values: NDArray[Any]) -> None:
        """Include these values, an array of any shape."""
        flat = values.reshape(-1)
        for start in range(0, flat.size, _BLOCK_VALUES):
            self._add(flat[start : start + _BLOCK_VALUES])

    def _add(self, values: NDArray[Any]) -> None:
        least, most = values.min(), values.max()
        if values.dtype.kind == "f" and not (np.isfinite(least) and np.isfinite(most)):
            values = values[np.isfinite(values)]
            if not values.size:
                return
            least, most = values.min(), values.max()
        self.least = least.item() if self.least is None else min(self.least, least.item())
        self.most = most.item() if self.most is None else max(self.most, most.item())

    @property
    def distribution(self) -> str:
        """`count` if the values span more than logarithms of counts ever do (24), else `normal`.

        The limit is that of cellxgene's `server.common.compute.estimate_distribution`.
        """
        if self.least is None:
            return "normal"
        return "count" if self.most - self.least > _COUNT_RANGE else "normal"
