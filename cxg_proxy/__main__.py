"""`python -m cxg_proxy` is `cxg-proxy`."""

from .app import main

main()
