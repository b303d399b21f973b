"""The builder: a process that builds a store for a worker, reports its progress, and ends with the worker."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from cxg_proxy.errors import Died, NotEnoughMemory, Problem
from cxg_proxy.steps import Phase, Step

from .cache import Stores
from .origin import Origin

_PATIENCE_SECONDS = 3.0


class Builder:
    """One process that builds a store.

    It ends when its standard input closes, and therefore with this process, however this one ends. Its log goes to
    this process's log.
    """

    def __init__(self, stores: Stores, origin: Origin):
        self._label = origin.label
        self._process = subprocess.Popen(_command(stores, origin), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @property
    def pid(self) -> int:
        """The process ID of the builder."""
        return self._process.pid

    def follow(self, on_progress: Callable[[float], None]) -> None:
        """Wait until the builder ends, passing the share that is done (0 to 1) to `on_progress`.

        Raises the Problem that the builder reported, or NotEnoughMemory or Died if it ended without reporting one.
        """
        last: Step | None = None
        assert self._process.stdout
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # the line is not a step
                last = Step.parse(line)
                if last.phase is Phase.LOADING and last.done is not None:
                    on_progress(last.done)
        status = self._process.wait()
        if last is not None and last.problem is not None:
            raise last.problem
        if last is None or last.phase is not Phase.READY:
            raise self._death(status)

    def end(self) -> None:
        """End the builder, and wait until it has ended."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def _death(self, status: int) -> Problem:
        if status == -signal.SIGKILL:
            detail = "what prepares its gene expression was killed; lack of memory is the usual reason"
            return NotEnoughMemory(self._label, detail=detail)
        return Died(self._label, detail=f"what prepares its gene expression ended with status {status}")


def _command(stores: Stores, origin: Origin) -> Sequence[str]:
    command = [sys.executable, "-m", "cxg_proxy.viewer", "build", "--cache", str(stores.cache)]
    command += ["--shared-cache", str(stores.shared)] if stores.shared is not None else []
    command += ["--cache-limit", str(stores.limit), "--build-memory", str(stores.memory)]
    command += [f"--layer={origin.layer}"] if origin.layer is not None else []
    return [*command, "--", origin.path]
