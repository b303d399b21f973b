"""What every child of the gateway does alike: take an order, speak on one channel, say what is wrong, end when told."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cxg_proxy.annotations import display_name
from cxg_proxy.errors import NotEnoughMemory, Problem

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOrder:
    """What the gateway asks of a child that makes a file from a dataset and the labels kept for it."""

    dataset: str
    labels: Path
    options: dict[str, Any]
    output: str


def channel() -> Callable[[bytes], None]:
    """Keep standard output for our lines alone: whatever else prints there is sent to the log."""
    out = os.dup(1)
    os.dup2(2, 1)

    def tell(line: bytes) -> None:
        try:
            while line:
                line = line[os.write(out, line) :]
        except BrokenPipeError:
            _log.warning("The gateway no longer listens")

    return tell


def log_to_stderr() -> None:
    """Send the log, and warnings, to where the gateway reads them; files made from now on are the user's alone."""
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(capture=True)


def outcome(work: Callable[[], _Result], dataset: str) -> _Result | Problem:
    """What the work gives, or the problem that prevented it, which is in the log then."""
    try:
        return work()
    except Problem as problem:
        _log.error("%s", problem.sentence)
        return problem
    except MemoryError:
        _log.exception("This was too much")
        return NotEnoughMemory(display_name(dataset))
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it was, the gateway must hear of it
        _log.exception("This did not work")
        return Problem(display_name(dataset), detail=f"{type(error).__name__}: {error}")


def leave(status: int) -> NoReturn:
    """End the process at once: no library gets a last word."""
    logging.shutdown()
    os._exit(status)


def on_leash(leave: Callable[[], None]) -> None:
    """Have `leave` called, in a thread, at the end of standard input and by a signal to end."""
    # Blocked in every thread and taken by one: a handler would wait for the end of a long read in the main thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for name, wait in (("signals", _wait_for_signal), ("leash", _wait_for_leash)):
        threading.Thread(target=_call_after, args=(wait, leave), name=name, daemon=True).start()


def _call_after(wait: Callable[[], None], leave: Callable[[], None]) -> None:
    wait()
    leave()


def _wait_for_signal() -> None:
    signal.sigwait(SIGNALS)


def _wait_for_leash() -> None:
    while os.read(0, 4096):
        pass
