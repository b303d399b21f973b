"""A child process of the gateway: how it takes an order, reports on standard output, logs, explains errors and ends."""

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
    """The gateway's order to a child that makes the file `output` from a dataset and the labels kept for it."""

    dataset: str
    labels: Path
    options: dict[str, Any]
    output: str


def channel() -> Callable[[bytes], None]:
    """Return a function that writes lines to standard output; anything else printed there goes to the log instead."""
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
    """Send the log and warnings to standard error, which the gateway reads.

    It also sets the umask, so that only the user may read files created from now on.
    """
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.captureWarnings(capture=True)


def outcome(work: Callable[[], _Result], dataset: str) -> _Result | Problem:
    """Return the result of `work`, or the Problem that prevented it, which is then logged."""
    try:
        return work()
    except Problem as problem:
        _log.error("%s", problem.sentence)
        return problem
    except MemoryError:
        _log.exception("This was too much")
        return NotEnoughMemory(display_name(dataset))
    except Exception as error:  # noqa: BLE001 - the end of the process: the gateway must receive any error
        _log.exception("This did not work")
        return Problem(display_name(dataset), detail=f"{type(error).__name__}: {error}")


def leave(status: int) -> NoReturn:
    """Close the log and end the process at once, without the exit handlers of Python and its libraries."""
    logging.shutdown()
    os._exit(status)


def end_with_parent(leave: Callable[[], None]) -> None:
    """Call `leave`, in a thread, at the end of standard input and at SIGTERM, SIGINT or SIGHUP."""
    # The signals are blocked in every thread and awaited by one, since a handler would have to wait for a long read in
    # the main thread.
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
