"""What can go wrong while a dataset's column store is made."""

from __future__ import annotations

from .problem import Problem


class StoreNotWritten(Problem):
    """The cache refuses what is written into it: read-only, no permission, a failing disk."""

    title = "The prepared form could not be saved"
    what = "gene expression could not be prepared, because its place on the disk cannot be written"
    steps = (
        "Tell your administrator: the folder for prepared datasets (the option cache) must be writable.",
        "Then try again.",
    )


class NoRoom(StoreNotWritten):
    """The disk of the cache is full, or would be."""

    title = "No room on the disk"
    what = "there is not enough room on the disk to prepare gene expression"
    steps = (
        "Remove what you do not need from the disk that holds the prepared datasets, then try again.",
        "Or ask your administrator to put them onto a larger disk (the option cache).",
    )
