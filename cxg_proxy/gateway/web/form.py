"""A form with a file in it, read as it arrives: neither form nor file is ever in memory as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from cxg_proxy.errors import BadRequest, NothingChosen

_HEADER_BYTES = 10_000  # of one header of a part
_FIELD_BYTES = 10_000  # a larger field is dropped
_MAX_PARTS = 20


class Form:
    """A form whose part `name` is written to `file`, which must not exist yet; its small fields are kept in `fields`.

    Raises BadRequest if `content_type` is not that of a form with a file.
    """

    def __init__(self, content_type: str, name: str, file: Path) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not 0 < len(boundary) <= 70:
            raise BadRequest(detail="it is no form with a file")
        self.fields: dict[str, str] = {}
        self.filename = ""
        self._name, self._file = name, file
        self._parser = PushMultipartParser(
            boundary.encode(errors="replace"), max_header_size=_HEADER_BYTES, max_segment_count=_MAX_PARTS
        )
        self._part: MultipartSegment | None = None  # the part whose content arrives now
        self._field = bytearray()  # its content so far, if it is a small field
        self._opened: IO[bytes] | None = None

    def feed(self, piece: bytes) -> None:
        """Read the next piece; raises BadRequest, or OSError if the file cannot be written."""
        try:
            for event in self._parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end()
                else:
                    self._take(event)
        except MultipartError as error:
            raise BadRequest(detail=f"the form cannot be read: {error}") from error

    def finish(self) -> None:
        """Close the file after all pieces; raises BadRequest if the form is cut off, NothingChosen without a file."""
        self.close()
        try:
            self._parser.close()
        except MultipartError as error:
            raise BadRequest(detail="the form is cut off") from error
        if self._opened is None or not self._file.stat().st_size:
            raise NothingChosen

    def close(self) -> None:
        """Close the file, whatever has arrived of it."""
        if self._opened is not None:
            self._opened.close()

    def _begin(self, part: MultipartSegment) -> None:
        self._part = part
        self._field.clear()
        if self._is_file():
            if self._opened is not None:
                raise BadRequest(detail="it holds more than one file")
            self.filename = part.filename or ""
            self._opened = self._file.open("xb")

    def _take(self, content: bytes | bytearray) -> None:
        if self._is_file():
            assert self._opened is not None
            self._opened.write(content)
        elif len(self._field) <= _FIELD_BYTES:
            self._field += content[: _FIELD_BYTES + 1]

    def _end(self) -> None:
        if self._part is not None and not self._is_file() and len(self._field) <= _FIELD_BYTES:
            self.fields[self._part.name or ""] = self._field.decode(errors="replace")

    def _is_file(self) -> bool:
        return self._part is not None and self._part.name == self._name
