"""A multipart form with a file in it, read from the disk: neither form nor file is ever in memory as a whole."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import HTTP
from pathlib import Path

from cxg_proxy.errors import BadRequest, NothingChosen

_HEADER_BYTES = 10_000  # of one part
_FIELD_BYTES = 10_000
_PARTS = 20
_PIECE = 1 << 20


@dataclass(frozen=True)
class Form:
    """The small fields of a form, and the position of its file in the body."""

    fields: dict[str, str]
    filename: str
    start: int
    end: int


def boundary_of(content_type: str) -> bytes:
    """Return what separates the parts; raises BadRequest if this is no form with a file."""
    header = Message()
    header["Content-Type"] = re.sub(r"[\r\n]", " ", content_type)
    boundary = header.get_boundary("")
    if header.get_content_type() != "multipart/form-data" or not boundary or len(boundary) > 70:
        raise BadRequest(detail="it is no form with a file")
    return b"--" + boundary.encode(errors="replace")


def read(body: Path, boundary: bytes, name: str) -> Form:
    """Return the form in the file `body`, in which the part `name` is the form's file.

    Raises BadRequest, or NothingChosen without that part.
    """
    with body.open("rb") as opened:
        try:
            whole = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as reason:  # an empty file
            raise NothingChosen from reason
        with whole:
            return _read(whole, boundary, name)


def _read(whole: mmap.mmap, boundary: bytes, name: str) -> Form:
    fields: dict[str, str] = {}
    found: tuple[str, int, int] | None = None
    start = whole.find(boundary) + len(boundary)
    for _ in range(_PARTS):
        if start < len(boundary) or whole[start : start + 2] == b"--":
            break
        head = whole.find(b"\r\n\r\n", start, start + _HEADER_BYTES)
        end = whole.find(b"\r\n" + boundary, head)
        if head < 0 or end < 0:
            raise BadRequest(detail="the form is cut off")
        part = BytesHeaderParser(policy=HTTP).parsebytes(whole[start:head].lstrip(b"\r\n") + b"\r\n\r\n")
        field = str(part.get_param("name", "", header="content-disposition"))
        if field == name:
            found = (part.get_filename("") or "", head + 4, end)
        elif end - head < _FIELD_BYTES:
            fields[field] = whole[head + 4 : end].decode(errors="replace")
        start = end + 2 + len(boundary)
    if found is None or found[1] == found[2]:
        raise NothingChosen
    return Form(fields, *found)


def cut(body: Path, form: Form, file: Path) -> None:
    """Write the form's file to a file of its own."""
    with body.open("rb") as source, file.open("xb") as target:
        source.seek(form.start)
        left = form.end - form.start
        while left and (piece := source.read(min(left, _PIECE))):
            left -= target.write(piece)
