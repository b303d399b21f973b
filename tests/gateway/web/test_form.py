"""A form with a file, read as it arrives: whatever its pieces are, and however it is malformed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxg_proxy.errors import BadRequest, NothingChosen
from cxg_proxy.gateway.web.form import Form

KIND = "multipart/form-data; boundary=b"
TABLE = b"index,type\r\nc1,B cell--b\r\n-b\n--b\r\n"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


WHOLE = part("_xsrf", b"secret") + part("table", TABLE, "my table.csv") + part("more", b"") + b"--b--\r\n"


def read(body: bytes, file: Path, sizes: list[int] | None = None, kind: str = KIND) -> Form:
    form = Form(kind, "table", file)
    try:
        for size in [*(sizes or []), len(body)]:
            if body[:size]:
                form.feed(body[:size])
            body = body[size:]
        form.finish()
    finally:
        form.close()
    return form


@given(st.lists(st.integers(1, 60), max_size=30))
def test_its_file_and_its_fields_are_the_same_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    file = tmp_path_factory.mktemp("form") / "table.csv"
    form = read(WHOLE, file, sizes)
    assert file.read_bytes() == TABLE
    assert form.filename == "my table.csv"
    assert form.fields == {"_xsrf": "secret", "more": ""}


@pytest.mark.parametrize("size", range(len(WHOLE) - 2))
def test_a_form_that_is_cut_off_is_refused(size: int, tmp_path: Path) -> None:
    with pytest.raises((BadRequest, NothingChosen)):
        read(WHOLE[:size], tmp_path / "table.csv")


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/csv",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 71}",
        "multipart/mixed; boundary=b",
    ],
)
def test_what_is_no_form_with_a_file_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no form with a file"):
        Form(kind, "table", tmp_path / "table.csv")


@pytest.mark.parametrize("body", [part("_xsrf", b"x") + b"--b--\r\n", part("table", b"", "") + b"--b--\r\n"])
def test_a_form_without_a_file_or_with_an_empty_one_has_nothing_chosen(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(NothingChosen):
        read(body, tmp_path / "table.csv")


def test_a_form_with_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="more than one file"):
        read(part("table", b"a") + part("table", b"b") + b"--b--\r\n", tmp_path / "table.csv")


@pytest.mark.parametrize(
    "body",
    [
        part("field", b"") * 21 + b"--b--\r\n",
        b"--b\r\n" + b"X: " + b"x" * 11_000 + b"\r\n\r\n\r\n--b--\r\n",
        b"--b\r\n" + b"X: x\r\n" * 100 + b"\r\n\r\n--b--\r\n",
        b"--b\nContent-Disposition: form-data",
        b"--bb\r\n",
        b"--b\r\n\xff\xfe: x\r\n\r\n\r\n--b--",
    ],
    ids=["many parts", "a long header", "many headers", "other line ends", "another boundary", "no header"],
)
def test_a_malformed_form_is_refused(body: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        read(body, tmp_path / "table.csv")


def test_a_field_that_is_no_small_one_is_dropped(tmp_path: Path) -> None:
    form = read(part("large", b"x" * 10_001) + WHOLE, tmp_path / "table.csv", [4000] * 2)
    assert form.fields == {"_xsrf": "secret", "more": ""}


def test_a_file_that_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("kept")
    with pytest.raises(FileExistsError):
        read(WHOLE, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "kept"
