"""Tables of labels from elsewhere: checked by a real child, shown with their numbers, saved on request."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxg_proxy import annotations
from cxg_proxy.annotations.tables import read_labels
from datasets import write_dataset
from gateways import PAGE, SAME_SITE, Gateway
from labels_gateway import (  # noqa: F401 - fixtures
    CELLS,
    FORM,
    change,
    csv,
    labels_folder,
    labels_gateway,
    moved_to,
    page,
    running_before,
    saved_labels,
    upload,
    upload_without_token,
    where,
)
from waiting import until_now

pytestmark = pytest.mark.timeout(120)


def test_an_uploaded_table_is_shown_with_its_numbers_and_saved_only_on_request(
    gateway: Gateway, saved: Path, folder: Path
) -> None:
    before = annotations.versions(saved)
    reply = upload(gateway, "fine.h5ad", csv((*CELLS[:20], "unknown"), type="T", new="x"), "../../ my <table>.csv")
    preview = gateway.get(moved_to(reply), **PAGE).text.replace("\u202f", " ")
    assert "has a row for 20 of the 30 cells" in preview
    assert "my &lt;table&gt;.csv" in preview
    assert "unknown" in preview
    assert annotations.versions(saved) == before
    assert "checked, but not saved yet" in page(gateway, "fine.h5ad")
    waiting = moved_to(reply).partition("upload=")[2]
    assert change(gateway, "two~20names.h5ad", "save", upload=waiting).status == 404  # of another dataset
    to = moved_to(change(gateway, "fine.h5ad", "save", upload=waiting))
    assert "The uploaded labels are saved" in gateway.get(to, **PAGE).text
    columns = read_labels(annotations.read(saved, annotations.LABELS) or b"").columns
    assert columns == {name: (label,) * 20 + ("unassigned",) * 10 for name, label in (("type", "T"), ("new", "x"))}
    newest, *_ = [each for each in annotations.versions(saved) if each.kind == "labels"]
    assert newest.origin == "uploaded"
    assert change(gateway, "fine.h5ad", "save", upload=waiting).status == 404  # once
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))


def test_a_table_that_was_checked_against_other_cells_is_not_saved(gateway: Gateway, folder: Path) -> None:
    write_dataset(folder / "data" / "replaced.h5ad")
    waiting = moved_to(upload(gateway, "replaced.h5ad", csv(type="T"))).partition("upload=")[2]
    write_dataset(folder / "data" / "replaced.h5ad", cells=40)
    assert change(gateway, "replaced.h5ad", "save", upload=waiting).status == 409
    assert annotations.saved(where(folder, "replaced")) is None
    moved_to(change(gateway, "replaced.h5ad", "cancel", upload=waiting))


def test_columns_that_are_not_in_the_table_stay(gateway: Gateway, saved: Path) -> None:
    to = moved_to(upload(gateway, "fine.h5ad", csv(added="x")))
    moved_to(change(gateway, "fine.h5ad", "save", upload=to.partition("upload=")[2]))
    assert set(read_labels(annotations.read(saved, annotations.LABELS) or b"").columns) == {"type", "added"}


def test_a_cancelled_upload_is_gone(gateway: Gateway, saved: Path, folder: Path) -> None:
    before = annotations.versions(saved)
    waiting = moved_to(upload(gateway, "fine.h5ad", csv(added="x"))).partition("upload=")[2]
    moved_to(change(gateway, "fine.h5ad", "cancel", upload=waiting))
    assert change(gateway, "fine.h5ad", "save", upload=waiting).status == 404
    assert annotations.versions(saved) == before
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 400, "No file was chosen"),
        (b"\x1f\x8b\x08" + bytes(3000), 422, "NUL character"),
        (b"index,type\nnobody,T\n", 422, "No row names a cell of this dataset"),
        (csv(kind="x"), 422, "overlap with h5ad obs columns"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_why(
    content: bytes, status: int, said: str, gateway: Gateway, folder: Path
) -> None:
    reply = upload(gateway, "fine.h5ad", content)
    assert reply.status == status
    assert said in reply.text
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))


def test_an_upload_that_is_no_form_or_too_large_is_refused_before_it_is_kept(gateway: Gateway, folder: Path) -> None:
    target = "/api/annotations/data/fine.h5ad/upload"
    assert gateway.ask("POST", target, {**SAME_SITE, "Content-Type": "text/csv"}, b"x" * 200_000).status == 400
    cut = upload_without_token(b"x" * 1000)[:500]
    kind = {"Content-Type": f"multipart/form-data; boundary={FORM}"}
    assert gateway.ask("POST", target, {**SAME_SITE, **kind}, cut).status == 400
    assert gateway.ask("POST", target, {**SAME_SITE, **kind, "Content-Length": "9999999999999"}, b"x").status == 413
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))
