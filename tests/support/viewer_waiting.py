"""A worker whose matrix is in preparation until a file exists; it records which requests wait and which give up."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxg_proxy.viewer import child
from cxg_proxy.viewer.cellxgene.application import load
from cxg_proxy.viewer.dataset.expression import Expression
from cxg_proxy.viewer.dataset.load import load_dataset as read_dataset
from cxg_proxy.viewer.dataset.metadata import Metadata
from cxg_proxy.viewer.progress import Cancelled
from cxg_proxy.viewer.serve import _listen, _turn
from cxg_proxy.viewer.store.matrix import Matrix
from cxg_proxy.worker_options import ServeOrder


class Pending:
    """The expression of a dataset, available once the file `place/there` exists."""

    def __init__(self, whole: Expression, place: Path):
        self._whole, self._place = whole, place
        self._lock = threading.Lock()

    def matrix(self, cancelled: Callable[[], bool]) -> Matrix:
        waits = not (self._place / "there").exists() and not cancelled()
        if waits:
            self._note("waits")
        while not (self._place / "there").exists():
            if cancelled():
                if waits:
                    self._note("gone")
                raise Cancelled
            time.sleep(0.01)
        return self._whole.matrix(cancelled)

    def distribution(self, cancelled: Callable[[], bool]) -> str:
        return self._whole.distribution(cancelled)

    def when_stored(self, do: Callable[[Any], None]) -> None:
        """Do nothing: no store is ever made."""

    def _note(self, what: str) -> None:
        with self._lock, (self._place / "noted").open("a") as noted:
            noted.write(f"{what}\n")


def main(dataset: str, socket: str, threads: str) -> None:
    """Serve until standard input ends."""
    say = child.channel()
    place = Path(socket).parent

    def read(path: str, layer: str | None) -> tuple[Metadata, Any]:
        rest, whole = read_dataset(path, layer, None, lambda *_: None)
        return rest, Pending(whole, place)

    order = ServeOrder(dataset, socket, place / "labels", {}, threads=int(threads))
    app = load(
        dataset,
        order.labels,
        {},
        read_only=False,
        history_limit=2**20,
        diffexp_workers=1,
        diffexp_max_cells=None,
        read=read,
    )
    server = _listen(order, app)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    say(b'{"phase": "ready"}\n')
    while True:
        _turn(server, timeout=1)


main(*sys.argv[1:])
