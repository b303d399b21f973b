"""What the gateway refuses or does not understand, of requests and of its own options."""

from __future__ import annotations

from .problem import Problem


class Refused(Problem):
    """A request from another site, or without the token."""

    title = "Refused"
    what = "this request did not come from a page of this site"
    steps = ("Go back, reload the page and try again.",)


class ReadOnly(Refused):
    """A change of labels where nothing is saved."""

    title = "Read-only"
    what = "labels and gene sets cannot be changed here"
    steps = ("Download them, or open the dataset on a server of your own.",)


class TooLarge(Problem):
    """A request body beyond the limit, as sent or after decompression."""

    title = "Too large"
    what = "this request is larger than the limit"
    steps = ("Send less at once.",)


class NoSuchPage(Problem):
    """An address that means nothing here."""

    title = "No such page"
    what = "there is no such page here"
    steps = ("Go back to the list of datasets.",)


class NoSuchInstance(NoSuchPage):
    """An instance that has ended and been forgotten, or never was."""

    what = "this viewer is not running any more"


class BadRequest(Problem):
    """A request that cannot be understood."""

    title = "Bad request"
    what = "this request cannot be understood"
    steps = ("Go back, reload the page and try again.",)


class NothingChosen(BadRequest):
    """A form for a file came without one, or with an empty one."""

    title = "No file was chosen"
    what = "no file was chosen, or it is empty"
    steps = ("Go back and choose a file.",)


class CannotListen(Problem):
    """The socket or port is taken or cannot be made."""

    title = "Cannot listen"
    what = "cxg-proxy cannot listen here"
    steps = ("Choose another address with --socket or --port.",)


class BadConfiguration(Problem):
    """The gateway's own options are wrong."""

    title = "The configuration is wrong"
    what = "an option of the gateway cannot be used"
    steps = ("Correct the option; `cxg-proxy --help-all` lists them all.", "Then start it again.")
