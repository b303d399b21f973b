"""Start one cellxgene per user and per dataset, on demand, behind the login of the host people already have.

::

              doors                    gateway (tornado, traitlets)                   worker (cellxgene)
    browser ─ Jupyter, JupyterHub ─┐
    browser ─ Galaxy ──────────────┼─ socket ─ handlers ─ instances ─ process ─ unix socket ─ WSGI ─ dataset
    browser ─ Binder ──────────────┤              │  ▲        ▲                                 └─ annotations (~)
    browser ─ alone ───────────────┘              │  └ pages  └── one JSON line per step (progress comes back)
                                                  └ forward: streams each exchange to the worker's socket

Imports point one way: doors → app → handlers → instances → (process, library, annotations) → errors.
Nothing here imports `cxg_proxy.viewer`: the gateway runs it, perhaps with another Python.

In a notebook, `labels`, `gene_sets` and `annotate` give what was made in the viewer; `save_labels` goes the other way,
and `show` displays the viewer itself.
"""

# No `from __future__ import annotations` here: it would hide the module of that name.
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxg_proxy.notebook.display import show
    from cxg_proxy.notebook.read import annotate, gene_sets, labels
    from cxg_proxy.notebook.save import save_labels

__all__ = ["annotate", "gene_sets", "labels", "save_labels", "show"]

__version__ = "0.2.0.dev0"


def __getattr__(name: str) -> Any:
    """Load the notebook's functions when they are asked for: the gateway needs none of them."""
    if name in __all__:
        module = {"save_labels": ".notebook.save", "show": ".notebook.display"}.get(name, ".notebook.read")
        return getattr(importlib.import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
