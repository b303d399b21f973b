"""Errors that a user may see: each says what happened, what it happened to, and what to do next.

Nothing here knows HTTP. A worker sends its problem to the gateway as JSON (`Problem.to_json`), so that both sides
describe it in the same words.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, ClassVar


class Problem(Exception):
    """A failure that keeps a user from what they wanted; every subclass is one cause.

    `which` names what the problem is about (usually a file name), `detail` adds what is specific to this occurrence,
    and `log` holds the last lines the worker wrote. In `steps`, text between backquotes is a command to copy.
    """

    title: ClassVar[str] = "Something went wrong"
    what: ClassVar[str] = "this did not work, and cxg-proxy does not know why"
    steps: tuple[str, ...] = ("Try again.", "If it stays like this, show the log lines below to your administrator.")

    def __init__(self, which: str = "", *, detail: str = "", steps: Sequence[str] = (), log: Sequence[str] = ()):
        self.which = which
        self.detail = detail
        self.log = tuple(log)
        if steps:
            self.steps = tuple(steps)
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """One sentence that says what happened, and to what."""
        what = f"{self.which}: {self.what}" if self.which else self.what[:1].upper() + self.what[1:]
        return f"{what} ({self.detail.rstrip('. ')})." if self.detail else f"{what}."

    def name_in_steps(self, placeholder: str, name: str) -> None:
        """Replace a placeholder in the commands of `steps` by a real name, quoted for a shell."""
        self.steps = tuple(step.replace(placeholder, shlex.quote(name)) for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return the problem as plain data, for messages from worker to gateway and for the JSON form of its page."""
        texts = {name: getattr(self, name) for name in ("title", "sentence", "which", "detail")}
        return {"kind": type(self).__name__, **texts, "steps": list(self.steps), "log": list(self.log)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Problem:
        """Rebuild the problem from `to_json`; an unknown kind (from another version) becomes a plain `Problem`."""
        kinds = {cls.__name__: cls for cls in _all_kinds(Problem)}
        kind = kinds.get(str(data.get("kind")), Problem)
        return kind(
            str(data.get("which", "")),
            detail=str(data.get("detail", "")),
            steps=[str(step) for step in data.get("steps", ())],
            log=[str(line) for line in data.get("log", ())],
        )


def _all_kinds(kind: type[Problem]) -> list[type[Problem]]:
    return [kind] + [deeper for below in kind.__subclasses__() for deeper in _all_kinds(below)]


# --- Datasets: their location, and the content of their files --------------------------------------------------------


class DatasetNotFound(Problem):
    """No such dataset, no such library, or a path that would leave its library."""

    title = "No such dataset"
    what = "there is no dataset of this name here"
    steps = (
        "Go back to the list of datasets and look for it there.",
        "If a colleague sent you the link, ask whether the file was moved, and whether you may read it.",
    )


class OutsideLibraries(Problem):
    """The file was named by its path, but it lies in no folder that is shown."""

    title = "Not in the library"
    what = "cellxgene does not show the folder of this file"
    steps = (
        "Move the file into one of the folders that are shown, or put a link to it there.",
        "Or ask your administrator to add its folder to the option `c.Gateway.libraries`.",
    )


class NotReadable(Problem):
    """The file exists, but its permissions keep this user out."""

    title = "You may not read this file"
    what = "the file is not readable by you"
    steps = ("Ask its owner to let you read it.", "Then try again.")


class NotDownloaded(Problem):
    """A remote dataset cannot be downloaded, or its copy cannot be written; the part already downloaded is kept."""

    title = "Not downloaded"
    what = "this dataset could not be downloaded"
    steps = ("Try again: the download goes on where it stopped.", "If it stays like this, tell your administrator.")


class StorageSilent(Problem):
    """The disk (usually a network home) does not answer."""

    title = "The storage does not answer"
    what = "the storage this file lies on does not answer"
    steps = ("Wait a minute, then try again.", "If it stays like this, tell your administrator.")


class NotH5ad(Problem):
    """The file is not HDF5 at all, or it is HDF5 but not AnnData."""

    title = "Not an .h5ad file"
    what = "this is not an AnnData file (.h5ad)"
    steps = (
        "Check that the file was copied completely.",
        "In Python, `adata.write('new.h5ad')` writes an AnnData object as .h5ad; "
        "`cellxgene prepare FILE --output new.h5ad` converts 10x and .loom files.",
    )


class DamagedFile(Problem):
    """The file is HDF5, but part of it cannot be read."""

    title = "This file is damaged"
    what = "part of this file cannot be read"
    steps = ("Copy the file again from where it came from; a cut-off copy is the usual cause.", "Then try again.")


class NoEmbedding(Problem):
    """There is nothing to draw: no usable `obsm['X_…']`."""

    title = "Nothing to draw"
    what = "this file has no 2-D embedding, so there is nothing to draw"
    steps = (
        "Compute one: `cellxgene prepare FILE --output new.h5ad`, or with scanpy `sc.tl.umap(adata)` and "
        "`adata.write('new.h5ad')`.",
        "Open the new file.",
    )


class NotViewable(Problem):
    """cellxgene refuses the content: names that are not unique, no cells, a matrix it cannot use."""

    title = "cellxgene cannot show this file"
    what = "cellxgene cannot show this file"
    steps = ("Correct the file as said above, or ask whoever made it.", "Then try again.")


class BadOptions(Problem):
    """A viewer option, from the configuration or from the file beside the dataset, is unknown or has a bad value."""

    title = "A viewer option is wrong"
    what = "an option for this dataset cannot be used"
    steps = ("Correct the option where it is set.", "Then try again.")


class ChangedMeanwhile(Problem):
    """The file was written while a worker read it."""

    title = "The file is changing"
    what = "this file changed while it was being opened"
    steps = ("Wait until it has been written completely.", "Then try again.")


# --- Viewers: how one starts, runs and ends --------------------------------------------------------------------------


class ViewerMissing(Problem):
    """The viewer's Python does not exist, or lacks cellxgene or cxg-proxy itself."""

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
    """The dataset does not fit into memory: the system killed the worker, or the worker met its own limit."""

    title = "Not enough memory"
    what = "the viewer needed more memory than it may use"
    steps = (
        "Close viewers you do not need on the page of running viewers, then try again.",
        "Choose a larger server, or ask your administrator to raise the memory limit.",
        "Or open a smaller file, for example with fewer cells or only the highly variable genes.",
    )


class StartTimeout(Problem):
    """The viewer was not ready after `start_timeout` seconds."""

    title = "This takes too long"
    what = "the viewer was not ready in time and was stopped"
    steps = ("Try again when the machine is less busy.", "Ask your administrator to raise --start-timeout.")


class Died(Problem):
    """The worker ended by itself; `detail` says how."""

    title = "The viewer stopped"
    what = "the viewer stopped by itself"


class NoAnswer(Problem):
    """One exchange with a worker broke off; the worker itself may be fine."""

    title = "No answer"
    what = "the viewer broke off its answer to this request"
    steps = ("Try again.",)


class Stopped(Problem):
    """The worker is not running because somebody or the idle timer closed it."""

    title = "The viewer was closed"
    what = "this viewer was closed; nothing is lost"
    steps = ("Open it again.",)


class TooManyInstances(Problem):
    """The limit of open viewers is reached, and all of them are in use."""

    title = "Too many viewers are open"
    what = "as many viewers are in use as you may have at once"
    steps = ("Stop one of those below, then try again.",)


class Busy(Problem):
    """A bounded queue is full."""

    title = "Busy"
    what = "too many computations are waiting already"
    steps = ("Wait until one of them has finished, then try again.",)


class StillPreparing(Problem):
    """A request waited long for gene expression, which is still not ready."""

    title = "Still preparing"
    what = "its gene expression is still being prepared"
    steps = ("Wait until it has been prepared, then try again.",)


# --- Labels and gene sets: saving, reading and sending them ----------------------------------------------------------


class LabelsNotSaved(Problem):
    """Labels or gene sets could not be written; what was saved before still stands."""

    title = "Not saved"
    what = "the labels could not be saved; the version saved before is untouched"
    steps = ("Make room in your home directory, or ask your administrator.", "Change a label again to save.")


class LabelsNotCertain(LabelsNotSaved):
    """Labels or gene sets are written, but the disk did not confirm that they survive a power cut."""

    title = "Perhaps not saved"
    what = "the labels are written, but the disk did not confirm it, so a power cut could still undo this save"
    steps = ("Change a label again to save.", "If it stays like this, ask your administrator to look at the disk.")


class LabelsNotReadable(Problem):
    """Saved labels or gene sets cannot be parsed, or no longer fit the dataset; they are left unchanged."""

    title = "Your labels cannot be read"
    what = "this file does not hold labels or gene sets for this dataset"
    steps = (
        "Correct the file, or move it elsewhere to begin without it; cxg-proxy has not changed it.",
        "Then try again.",
    )


class NoSuchVersion(Problem):
    """The history does not hold this version of labels or gene sets, or no longer holds it."""

    title = "No such version"
    what = "there is no such version of these labels any more"
    steps = ("Go back to the labels of this dataset and choose one of the versions there.",)


class NothingSaved(NoSuchVersion):
    """Labels or gene sets were requested, but none are saved."""

    title = "Nothing saved yet"
    what = "nothing was saved for this dataset yet"
    steps = ("Open the dataset and label some cells; they are saved as you go.",)


class NotPrepared(Problem):
    """A file for download, or the check of an uploaded file, could not be written to the cache."""

    title = "Not prepared"
    what = "this file could not be prepared"
    steps = ("Make room on the disk of the cache, or ask your administrator.", "Then try again.")


class NotSent(Problem):
    """Labels could not be sent to the host's history."""

    title = "Not sent"
    what = "the labels could not be sent to the history; they are safe where they were saved"
    steps = ("Try again later, or download them instead.",)


class Replaced(Problem):
    """The file was replaced after the requesting page was opened."""

    title = "The file was replaced"
    what = "this file was replaced since you opened it, so nothing can be saved from the old page"
    steps = ("Reload the page.",)


# --- Stores: the column store of a dataset ---------------------------------------------------------------------------


class StoreNotWritten(Problem):
    """The cache cannot be written: it is read-only, permission is missing, or the disk fails."""

    title = "The prepared form could not be saved"
    what = "gene expression could not be prepared, because its place on the disk cannot be written"
    steps = (
        "Tell your administrator: the folder for prepared datasets (the option cache) must be writable.",
        "Then try again.",
    )


class NoRoom(StoreNotWritten):
    """The disk of the cache is full, or would become full."""

    title = "No room on the disk"
    what = "there is not enough room on the disk to prepare gene expression"
    steps = (
        "Remove what you do not need from the disk that holds the prepared datasets, then try again.",
        "Or ask your administrator to put them onto a larger disk (the option cache).",
    )


# --- The gateway: its requests and its configuration -----------------------------------------------------------------


class Refused(Problem):
    """The request came from another site, or without the token."""

    title = "Refused"
    what = "this request did not come from a page of this site"
    steps = ("Go back, reload the page and try again.",)


class ReadOnly(Refused):
    """The request changes labels or gene sets where saving is off."""

    title = "Read-only"
    what = "labels and gene sets cannot be changed here"
    steps = ("Download them, or open the dataset on a server of your own.",)


class TooLarge(Problem):
    """The request body exceeds the limit, as sent or after decompression."""

    title = "Too large"
    what = "this request is larger than the limit"
    steps = ("Send less at once.",)


class NoSuchPage(Problem):
    """No page has this address."""

    title = "No such page"
    what = "there is no such page here"
    steps = ("Go back to the list of datasets.",)


class NoSuchInstance(NoSuchPage):
    """The instance has ended and been forgotten, or never existed."""

    what = "this viewer is not running any more"


class BadRequest(Problem):
    """The request cannot be understood."""

    title = "Bad request"
    what = "this request cannot be understood"
    steps = ("Go back, reload the page and try again.",)


class NothingChosen(BadRequest):
    """A form for a file was submitted without a file, or with an empty one."""

    title = "No file was chosen"
    what = "no file was chosen, or it is empty"
    steps = ("Go back and choose a file.",)


class CannotListen(Problem):
    """The socket or port is taken, or cannot be created."""

    title = "Cannot listen"
    what = "cxg-proxy cannot listen here"
    steps = ("Choose another address with --socket or --port.",)


class BadConfiguration(Problem):
    """The gateway's own options are wrong."""

    title = "The configuration is wrong"
    what = "an option of the gateway cannot be used"
    steps = ("Correct the option; `cxg-proxy --help-all` lists them all.", "Then start it again.")
