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
"""

__version__ = "0.1.0"
