"""A maker of one store that can pause on the way: `store_maker.py CACHE SOURCE [HOLD [LIMIT [SHARED]]]`.

With `others` in place of SHARED, users who may read the source may read the store.

It prints a JSON line for each share that is reported. Once, at the share HOLD or the first one after it, it waits for a
line on standard input. Then it prints the store's folder and the sum of its values, or the problem. It ends when its
standard input ends.
"""

import json
import sys
from pathlib import Path

import numpy as np

from cxg_proxy.errors import Problem
from cxg_proxy.viewer.store import build
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    cache, source, *more = sys.argv[1:]
    hold = float(more[0]) if more else 2.0
    limit = int(more[1]) if more[1:] else 2**62
    for_others = more[2:] == ["others"]
    shared = Path(more[2]) if more[2:] and not for_others else None
    stores = Stores(Path(cache), shared, limit=limit, memory=2**28, for_others=for_others)
    held = False
    heard = []

    def report(done: float) -> None:
        nonlocal held
        heard.append(done)
        say(done=done)
        if done >= hold and not held:
            held = True
            sys.stdin.readline()

    try:
        there = stores.make(Origin.of(source), report, lambda: False)
    except (Problem, build.Cancelled) as problem:
        say(problem=type(problem).__name__, sentence=str(problem))
        return
    values = there.matrix.columns(np.arange(there.shape[1]))
    say(store=str(there.folder), total=float(values.sum(dtype=np.float64)), heard=heard)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
