"""Elements of an .h5ad file: anndata's functions that read and write one, imported from where this release has them.

The module stands alone because it loads anndata, which the summary of a file does without.
"""

from __future__ import annotations

try:
    from anndata.io import read_elem, write_elem
except ImportError:  # before anndata 0.11
    from anndata.experimental import read_elem, write_elem

__all__ = ["read_elem", "write_elem"]
