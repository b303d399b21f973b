"""Where the checkout is, and the programs that misbehave on purpose."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
WORKERS = CHECKOUT / "tests" / "workers"
SUPPORT = CHECKOUT / "tests" / "support"
