"""A gateway that starts one cellxgene for each user and dataset, on demand, behind the login of an existing host.

::

              doors                  gateway (tornado, traitlets)                      viewer (cellxgene)
    browser ─ Jupyter, JupyterHub ─┐
    browser ─ Galaxy ──────────────┼─ socket ─ web ─ workers ─ process ─ unix socket ─ WSGI ─ dataset ─ store, source
    browser ─ Binder ──────────────┤           │ ▲         ▲                                └─ annotations (~)
    browser ─ alone ───────────────┘           │ └ pages   └── one JSON line per step (progress comes back)
                                               └ forwarding: streams each exchange to the worker's socket

Imports point one way: doors and commands → gateway (web → services → pages → labels → workers → library) →
annotations → files → errors. The viewer runs in its own environment on the same ground:
viewer (cellxgene → dataset, compute → store → source) → annotations → files → errors.
Nothing outside `cxg_proxy.viewer` imports it: the gateway runs it as a program, perhaps with another Python.

In a notebook, `labels`, `gene_sets` and `annotate` read what was made in the viewer, `save_labels` writes labels
for the viewer, and `show` displays the viewer itself.
"""

# No `from __future__ import annotations` here: it would hide the package of that name.
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxg_proxy.notebook.display import show
    from cxg_proxy.notebook.read import annotate, gene_sets, labels
    from cxg_proxy.notebook.save import save_labels

__all__ = ["annotate", "gene_sets", "labels", "save_labels", "show"]

__version__ = "0.2.0.dev0"


def __getattr__(name: str) -> Any:
    """Load a notebook function at its first use: the gateway needs none of them."""
    if name in __all__:
        module = {"save_labels": ".notebook.save", "show": ".notebook.display"}.get(name, ".notebook.read")
        return getattr(importlib.import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
