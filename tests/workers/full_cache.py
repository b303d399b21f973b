"""A full cache, `full_cache.py FOLDER`: checks a store whose disk is full before, or becomes full while, it is built.

Run it in its own mount namespace; it exits with status 0 if all checks pass.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from cxg_proxy.errors import NoRoom
from cxg_proxy.viewer.store import eviction
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from stores_fixtures import MEMORY, PLENTY, ignore, names, never, total, write

SIZE = 64 * 1024 * 1024


def fill(cache: Path, left: int) -> Path:
    filler = cache / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
        file.truncate(file.tell() - left)
    return filler


def refused(stores: Stores, source: Path, report=ignore) -> NoRoom:
    try:
        stores.make(Origin.of(str(source)), report, never)
    except NoRoom as problem:
        assert names(stores.cache) == [], names(stores.cache)
        return problem
    raise AssertionError("it was made")


def main(folder: Path) -> None:
    source = write(folder / "cells.h5ad", count=2000, genes=2000)
    cache = folder / "cache"
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", cache], check=True)
    stores = Stores(cache, None, limit=PLENTY, memory=MEMORY)
    filler = fill(cache, 1 << 20)
    assert "are free on the disk" in refused(stores, source).sentence
    filler.unlink()

    def others_fill(done: float) -> None:
        """Fill the disk while the store is built, as another program would."""
        nonlocal filler
        if not filler.exists():
            filler = fill(cache, 64 * 1024)

    refused(stores, source, others_fill)
    filler.unlink()
    assert total(stores.make(Origin.of(str(source)), ignore, never)) > 0
    assert eviction.free(cache) > 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
