"""Which replies have a tag, and what each depends on: the dataset and its options alone, or the user's labels too."""

from __future__ import annotations

from collections.abc import Callable, Container

from flask import Flask, Request

from cxg_proxy import etags

_KEY = "cxg-proxy-tags"  # of the application's own
COLUMN = "annotation-name"  # how a request names a column of obs or var

# The same as long as the dataset is: its own columns, matrix, embeddings, colours, and how it is shown.
_OF_DATASET = frozenset(
    f"api.{name}"
    for name in ("annotationsvarapi", "datavarapi", "layoutobsapi", "colorsapi", "summarizevarapi", "configapi")
)
_OF_DATASET_AND_LABELS = frozenset(("api.schemaapi", "api.annotationsobsapi"))


def of_dataset_alone(request: Request, own: Container[str]) -> bool:
    """Whether the reply is made of the dataset alone; `own` are the columns of obs in the file.

    One such column is: no column of labels may have its name. Whoever asks for several may mean labels.
    """
    if request.endpoint == "api.annotationsobsapi":
        names = request.args.getlist(COLUMN)
        return len(names) == 1 and names[0] in own
    return request.endpoint in _OF_DATASET


class Tags:
    """The tags of one viewer's replies.

    `state` says what the dataset and its options are like. `labels` gives what tells one state of the labels from
    another; it is None where labels are not shown.
    """

    def __init__(self, state: str, own: Container[str], labels: Callable[[], str] | None):
        self.state = state
        self._own, self._labels = own, labels

    @staticmethod
    def used_by(application: Flask) -> Tags:
        """Those of an application."""
        found: Tags = application.extensions[_KEY]
        return found

    def belong_to(self, application: Flask) -> None:
        """Let them be found by `used_by`."""
        application.extensions[_KEY] = self

    def of(self, request: Request) -> str | None:
        """The tag of the reply that the request would get, without making that reply; None where it has none."""
        if request.method not in ("GET", "HEAD"):
            return None
        state = self.state
        if self.depends_on_labels(request) and self._labels is not None:
            state = etags.digest(state, self._labels())
        elif request.endpoint not in _OF_DATASET | _OF_DATASET_AND_LABELS:
            return None
        query = request.query_string.decode("latin-1")
        target = f"{request.path}?{query}" if query else request.path
        return etags.tag(state, target, request.headers.get("Accept", ""))

    def depends_on_labels(self, request: Request) -> bool:
        """Whether the reply shows labels."""
        shown = self._labels is not None and request.endpoint in _OF_DATASET_AND_LABELS
        return shown and not of_dataset_alone(request, self._own)
