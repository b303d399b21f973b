"""What the demo shows, and how much of a small container it takes."""

from pathlib import Path

c = get_config()

binder = Path(__file__).resolve().parent.parent

c.Gateway.libraries = {"demo": str(binder / "library")}
c.Gateway.shared_cache = str(binder / ".prepared")  # postBuild has filled it
# The public Binder service gives a visitor two processors and 1 to 2 GB of memory.
c.Gateway.max_instances = 2
c.Gateway.build_memory = 300_000_000
