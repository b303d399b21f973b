"""A killed writer: it makes saves in forks of itself and kills them. A program this small is forked in a millisecond.

It reads one round per line as JSON, `{"where": FOLDER, "acts": [ACT, ...]}`, runs all acts of a round at the same time,
and prints their exit statuses as JSON: 0 done, 3 not saved, -9 killed at a call, -14 (SIGALRM) killed at an instant.
"""

import json
import os
import signal
import sys
from pathlib import Path

from faulty_writer import disturb

from cxg_proxy import annotations
from cxg_proxy.errors import LabelsNotSaved


def record(cells: str) -> annotations.DatasetRecord:
    return annotations.DatasetRecord("pbmc.h5ad", "/data/pbmc.h5ad", len(cells), annotations.identifiers_digest(cells))


def do(where: Path, act: dict) -> None:
    if act["do"] == "restore":
        annotations.restore(where, act["version"], now=act["now"], patience=5)
    else:
        content = act["content"].encode()
        annotations.write(where, act["name"], content, now=act["now"], record=lambda: record(act["cells"]), patience=5)


def begin(where: Path, act: dict) -> int:
    child = os.fork()
    if not child:
        if act["how"] in ("kill", "half", "full"):
            disturb(act["at"], act["how"])
        if act["how"] == "time":  # an unhandled alarm ends a process as SIGKILL does: at once, wherever it is
            signal.setitimer(signal.ITIMER_REAL, act["at"] / 10_000)
        try:
            do(where, act)
        except LabelsNotSaved as error:
            print(error.detail, file=sys.stderr)
            os._exit(3)
        except BaseException as error:  # noqa: BLE001 - a fork must never continue as if it were its parent
            print(repr(error), file=sys.stderr)
            os._exit(4)
        os._exit(0)
    return child


def main() -> None:
    for line in sys.stdin:
        task = json.loads(line)
        children = [begin(Path(task["where"]), act) for act in task["acts"]]
        ended = dict(os.waitpid(-1, 0) for _ in children)  # reaps each as soon as it ends, as a gateway does
        statuses = [os.waitstatus_to_exitcode(ended[child]) for child in children]
        print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    main()
