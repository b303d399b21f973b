"""Places in the checkout: its root, and the folders of the tests' support modules and workers."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
WORKERS = CHECKOUT / "tests" / "workers"
SUPPORT = CHECKOUT / "tests" / "support"
