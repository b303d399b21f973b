"""What can go wrong with a dataset: where it lies, and what is in its file."""

from __future__ import annotations

from .problem import Problem


class DatasetNotFound(Problem):
    """No such dataset, no such library, or a path that would leave its library."""

    title = "No such dataset"
    what = "there is no dataset of this name here"
    steps = (
        "Go back to the list of datasets and look for it there.",
        "If a colleague sent you the link, ask whether the file was moved, and whether you may read it.",
    )


class OutsideLibraries(Problem):
    """A file that is named by its path, in no folder that is shown."""

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
    """A dataset at a remote address cannot be had, or its copy cannot be written; what has come is kept."""

    title = "Not downloaded"
    what = "this dataset could not be downloaded"
    steps = ("Try again: the download goes on where it stopped.", "If it stays like this, tell your administrator.")


class StorageSilent(Problem):
    """The disk (usually a network home) does not answer."""

    title = "The storage does not answer"
    what = "the storage this file lies on does not answer"
    steps = ("Wait a minute, then try again.", "If it stays like this, tell your administrator.")


class NotH5ad(Problem):
    """The file is not HDF5 at all, or HDF5 of another kind."""

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
