"""AnnData's reader and writer of one element of a file, wherever this release of it has them.

It is alone because it loads anndata, which a summary of a file does without.
"""

from __future__ import annotations

try:
    from anndata.io import read_elem, write_elem
except ImportError:  # before anndata 0.11
    from anndata.experimental import read_elem, write_elem

__all__ = ["read_elem", "write_elem"]
