"""What can go wrong with labels and gene sets: saved, read, and handed on."""

from __future__ import annotations

from .problem import Problem


class LabelsNotSaved(Problem):
    """Labels or gene sets could not be written; what was saved before still stands."""

    title = "Not saved"
    what = "the labels could not be saved; the version saved before is untouched"
    steps = ("Make room in your home directory, or ask your administrator.", "Change a label again to save.")


class LabelsNotCertain(LabelsNotSaved):
    """Labels or gene sets are written, but the disk did not say that they outlast a power cut."""

    title = "Perhaps not saved"
    what = "the labels are written, but the disk did not confirm it, so a power cut could still undo this save"
    steps = ("Change a label again to save.", "If it stays like this, ask your administrator to look at the disk.")


class LabelsNotReadable(Problem):
    """Saved labels or gene sets cannot be understood, or do not fit the dataset any more; they are left as they are."""

    title = "Your labels cannot be read"
    what = "this file does not hold labels or gene sets for this dataset"
    steps = (
        "Correct the file, or move it elsewhere to begin without it; cxg-proxy has not changed it.",
        "Then try again.",
    )


class NoSuchVersion(Problem):
    """A version of labels or gene sets that is not in the history (any more)."""

    title = "No such version"
    what = "there is no such version of these labels any more"
    steps = ("Go back to the labels of this dataset and choose one of the versions there.",)


class NothingSaved(NoSuchVersion):
    """Labels or gene sets were asked for, but there are none."""

    title = "Nothing saved yet"
    what = "nothing was saved for this dataset yet"
    steps = ("Open the dataset and label some cells; they are saved as you go.",)


class NotPrepared(Problem):
    """A file to download, or the check of an uploaded one, could not be written to the cache."""

    title = "Not prepared"
    what = "this file could not be prepared"
    steps = ("Make room on the disk of the cache, or ask your administrator.", "Then try again.")


class NotSent(Problem):
    """Labels could not be sent to the host's history."""

    title = "Not sent"
    what = "the labels could not be sent to the history; they are safe where they were saved"
    steps = ("Try again later, or download them instead.",)


class Replaced(Problem):
    """The file is another one since the page that asks was opened."""

    title = "The file was replaced"
    what = "this file was replaced since you opened it, so nothing can be saved from the old page"
    steps = ("Reload the page.",)
