"""What can go wrong with a viewer: its start, its life and its limits."""

from __future__ import annotations

from collections.abc import Sequence

from .problem import Problem


class ViewerMissing(Problem):
    """The viewer's Python does not exist, or has no cellxgene, or none of cxg-proxy's own code."""

    title = "The viewer is not installed"
    what = "cellxgene cannot be started with this Python"
    steps = (
        "Your administrator installs it there: `PYTHON -m pip install 'cxg-proxy[viewer]'`, "
        "or names another environment with the option --viewer-python.",
        "Then try again.",
    )

    def __init__(self, which: str = "", *, detail: str = "", steps: Sequence[str] = (), log: Sequence[str] = ()):
        super().__init__(which, detail=detail, steps=steps, log=log)
        if which:
            self.name_in_steps("PYTHON", which)


class ViewerMismatch(Problem):
    """The viewer's environment holds another version of cxg-proxy than the gateway's."""

    title = "Two versions of cxg-proxy"
    what = "the viewer's environment holds another version of cxg-proxy"
    steps = ("Your administrator installs the same version in both environments.", "Then try again.")


class NotEnoughMemory(Problem):
    """The dataset does not fit: the system killed the worker, or it met its own limit."""

    title = "Not enough memory"
    what = "the viewer needed more memory than it may use"
    steps = (
        "Close viewers you do not need on the page of running viewers, then try again.",
        "Choose a larger server, or ask your administrator to raise the memory limit.",
        "Or open a smaller file, for example with fewer cells or only the highly variable genes.",
    )


class StartTimeout(Problem):
    """Still not ready after `start_timeout` seconds."""

    title = "This takes too long"
    what = "the viewer was not ready in time and was stopped"
    steps = ("Try again when the machine is less busy.", "Ask your administrator to raise --start-timeout.")


class Died(Problem):
    """The worker ended by itself; `detail` says how."""

    title = "The viewer stopped"
    what = "the viewer stopped by itself"


class NoAnswer(Problem):
    """One exchange with a worker broke off; the worker itself may be well."""

    title = "No answer"
    what = "the viewer broke off its answer to this request"
    steps = ("Try again.",)


class Stopped(Problem):
    """The worker is not running because somebody or the idle timer closed it."""

    title = "The viewer was closed"
    what = "this viewer was closed; nothing is lost"
    steps = ("Open it again.",)


class TooManyInstances(Problem):
    """All places are taken by viewers that are in use."""

    title = "Too many viewers are open"
    what = "as many viewers are in use as you may have at once"
    steps = ("Stop one of those below, then try again.",)


class Busy(Problem):
    """A bounded queue is full."""

    title = "Busy"
    what = "too many computations are waiting already"
    steps = ("Wait until one of them has finished, then try again.",)


class StillPreparing(Problem):
    """Somebody waited long for gene expression, and it is not there yet."""

    title = "Still preparing"
    what = "its gene expression is still being prepared"
    steps = ("Wait until it has been prepared, then try again.",)
