"""A killed builder, `killed_builder.py CACHE SOURCE N`: builds a store in forks of itself, each killed a little later.

After each killed fork, another one makes the store. It prints JSON lines for each round: whether the first fork was
killed, and then the sum of the store's values and the content of the folder of stores.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from stores_fixtures import MEMORY, PLENTY, ignore, names, never, total


def build(cache: Path, source: str, seconds: float | None, say: bool) -> int:
    """Make the store in a fork, which is killed after `seconds` unless they are None; returns its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if seconds is not None:  # an unhandled alarm ends a process as SIGKILL does: at once, wherever it is
        signal.setitimer(signal.ITIMER_REAL, seconds)
    status = 1
    try:
        there = Stores(cache, None, limit=PLENTY, memory=MEMORY).make(Origin.of(source), ignore, never)
        if say:
            print(json.dumps({"total": total(there), "names": names(cache)}), flush=True)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    cache, source, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    Stores(cache, None, limit=PLENTY, memory=MEMORY).make(Origin.of(source), ignore, never)  # this loads all modules
    shutil.rmtree(cache / "stores")
    begun = time.monotonic()
    assert build(cache, source, None, say=True) == 0
    seconds = time.monotonic() - begun
    for moment in range(1, rounds + 1):
        shutil.rmtree(cache / "stores")
        killed = build(cache, source, seconds * moment / rounds, say=False) == -signal.SIGALRM
        print(json.dumps({"killed": killed}), flush=True)
        assert build(cache, source, None, say=True) == 0


if __name__ == "__main__":
    main()
