"""The ETags of replies, which depend on the dataset and its options alone, or on the user's labels too."""

from __future__ import annotations

from collections.abc import Callable, Container

from flask import Flask, Request

from cxg_proxy import etags

_KEY = "cxg-proxy-tags"  # in the application's `extensions`
COLUMN = "annotation-name"  # the argument with which a request names a column of obs or var

# Replies that change only with the dataset: its own columns, matrix, embeddings and colours, and how it is shown.
_OF_DATASET = frozenset(
    f"api.{name}"
    for name in ("annotationsvarapi", "datavarapi", "layoutobsapi", "colorsapi", "summarizevarapi", "configapi")
)
_OF_DATASET_AND_LABELS = frozenset(("api.schemaapi", "api.annotationsobsapi"))


def of_dataset_alone(request: Request, columns: Container[str]) -> bool:
    """Whether the reply depends on the dataset alone; `columns` are those of obs in the file.

    A request for one such column does, since no column of labels may have its name. A request for several columns may
    include labels.
    """
    if request.endpoint == "api.annotationsobsapi":
        names = request.args.getlist(COLUMN)
        return len(names) == 1 and names[0] in columns
    return request.endpoint in _OF_DATASET


class Tags:
    """The ETags of one viewer's replies.

    `state` is a digest of the dataset and its options. `labels` returns a text that changes with the labels; it is None
    where labels are not shown.
    """

    def __init__(self, state: str, columns: Container[str], labels: Callable[[], str] | None):
        self.state = state
        self._columns, self._labels = columns, labels

    @staticmethod
    def used_by(application: Flask) -> Tags:
        """Return the tags of an application."""
        tags: Tags = application.extensions[_KEY]
        return tags

    def belong_to(self, application: Flask) -> None:
        """Attach these tags to an application, for `used_by`."""
        application.extensions[_KEY] = self

    def of(self, request: Request) -> str | None:
        """Return the tag of the reply to a request, without making that reply; None if it has no tag."""
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
        return shown and not of_dataset_alone(request, self._columns)
