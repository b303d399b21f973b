"""The page of a dataset's labels, through a real gateway and with its real children."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import pytest

from conftest import until_now
from cxg_proxy import annotations
from cxg_proxy.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv, read_labels
from gateways import PAGE, SAME_SITE, Gateway, Reply, UnixConnection, running_gateway
from test_faults import write_dataset

pytestmark = pytest.mark.timeout(120)

CELLS = tuple(str(number) for number in range(30))
START = time.time() - 300  # or they were thinned
FORM = "----form"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("labels")
    for name in ("fine", "two names", "moved", "<b>&#1"):
        write_dataset(place / "data" / f"{name}.h5ad")
    write_dataset(place / "data" / "grown.h5ad", cells=40)
    return place


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    with running_gateway(folder, python=sys.executable) as running:
        yield running


@pytest.fixture(autouse=True, scope="module")
def _before_the_check(gateway: Gateway) -> None:
    """Have the gateway running before a test's leftovers are counted."""


def where(folder: Path, name: str) -> Path:
    return annotations.directory(folder / "labels", folder / "data" / f"{name}.h5ad")


def csv(cells: tuple[str, ...] = CELLS, **columns: str) -> bytes:
    return labels_csv(
        LabelTable("index", cells, {name: (label,) * len(cells) for name, label in columns.items()})
    ).encode()


@pytest.fixture
def saved(folder: Path) -> Path:
    """Three versions of labels of the dataset `fine`, and gene sets."""
    place = where(folder, "fine")
    for name in (annotations.LABELS, annotations.GENE_SETS):
        (place / name).unlink(missing_ok=True)
    for number, label in enumerate(("T", "B", "</script><b>NK")):
        annotations.write(place, annotations.LABELS, csv(type=label), now=START + 60 * number)
    annotations.write(place, annotations.GENE_SETS, gene_sets_csv([GeneSet("naive", "", (("0", ""),))]).encode())
    return place


def page(gateway: Gateway, address: str, status: int = 200) -> str:
    reply = gateway.get(f"/annotations/data/{address}", **PAGE)
    assert reply.status == status, reply.text
    return reply.text


def facts(gateway: Gateway, address: str) -> Any:
    reply = gateway.get(f"/api/annotations/data/{address}")
    assert reply.status == 200, reply.text
    return reply.json


def change(gateway: Gateway, address: str, action: str, **fields: str) -> Reply:
    fields = {"_xsrf": gateway.xsrf_of(f"/annotations/data/{address}"), **fields}
    return gateway.post(f"/api/annotations/data/{address}/{action}", fields, **PAGE, **SAME_SITE)


def moved_to(reply: Reply) -> str:
    """Where a reply leads, from the gateway's root."""
    assert reply.status == 303, reply.text
    return re.sub(r"^(\.\./)+", "/", reply.headers["Location"])


def upload(gateway: Gateway, address: str, content: bytes, name: str = "table.csv", **headers: str) -> Reply:
    token = gateway.xsrf_of("/annotations/data/fine.h5ad")
    head = f'--{FORM}\r\nContent-Disposition: form-data; name="_xsrf"\r\n\r\n{token}\r\n'
    head += f'--{FORM}\r\nContent-Disposition: form-data; name="table"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{FORM}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={FORM}"}
    return gateway.ask(
        "POST", f"/api/annotations/data/{address}/upload", {**kind, **PAGE, **SAME_SITE, **headers}, body
    )


# --- what is there -------------------------------------------------------------------------------------------------


def test_a_dataset_without_labels_says_so_and_leads_to_the_viewer(gateway: Gateway) -> None:
    text = page(gateway, "two~20names.h5ad")
    assert "Nothing saved yet" in text
    assert 'href="../../view/data/two~20names.h5ad/"' in text
    assert gateway.get("/api/annotations/data/two~20names.h5ad/labels.csv").status == 404
    assert gateway.get("/annotations/data/none.h5ad", **PAGE).status == 404


def test_the_page_counts_each_label_and_lists_every_version(gateway: Gateway, saved: Path) -> None:
    text = page(gateway, "fine.h5ad")
    assert "&lt;/script&gt;&lt;b&gt;NK" in text
    assert "<b>NK" not in text
    assert "30 of 30" in text.replace("\u202f", " ")
    assert len(re.findall(r'class="entry"', text)) == len(annotations.versions(saved))
    found = facts(gateway, "fine.h5ad")
    assert found["shown"][0]["categories"][0]["bars"] == [{"name": "</script><b>NK", "count": 30}]
    assert found["shown"][1]["sets"] == [{"name": "naive", "count": 1}]


def test_an_older_version_is_shown_downloaded_and_restored_and_that_can_be_undone(
    gateway: Gateway, saved: Path
) -> None:
    first = [each for each in annotations.versions(saved) if each.kind == "labels"][-1]
    text = page(gateway, f"fine.h5ad?version={first.id}")
    assert "Restore this version" in text
    kept = gateway.get(f"/api/annotations/data/fine.h5ad/labels.csv?version={first.id}")
    assert kept.body == csv(type="T")
    to = moved_to(change(gateway, "fine.h5ad", "restore", version=first.id))
    assert annotations.read(saved, annotations.LABELS) == csv(type="T")
    assert "is current again" in gateway.get(to, **PAGE).text
    before = [each for each in annotations.versions(saved) if each.kind == "labels"][1]
    change(gateway, "fine.h5ad", "restore", version=before.id)
    assert annotations.read(saved, annotations.LABELS) == csv(type="</script><b>NK")


@pytest.mark.parametrize("version", ["", "none", "../../../etc/passwd", "20260521T000000.000Z-labels-0-1"])
def test_a_version_that_is_none_is_not_found(version: str, gateway: Gateway, saved: Path) -> None:
    before = annotations.read(saved, annotations.LABELS)
    assert change(gateway, "fine.h5ad", "restore", version=version).status == 404
    if version:
        assert gateway.get(f"/annotations/data/fine.h5ad?version={version}", **PAGE).status == 404
        assert gateway.get(f"/api/annotations/data/fine.h5ad/labels.csv?version={version}").status == 404
    assert annotations.read(saved, annotations.LABELS) == before


def test_files_are_downloaded_as_they_are_under_a_name_that_any_browser_can_save(
    gateway: Gateway, saved: Path, folder: Path
) -> None:
    reply = gateway.get("/api/annotations/data/fine.h5ad/gene-sets.csv")
    assert reply.body == annotations.read(saved, annotations.GENE_SETS)
    assert reply.headers["Content-Disposition"].startswith('attachment; filename="fine-gene-sets.csv"')
    annotations.write(where(folder, "<b>&#1"), annotations.LABELS, csv(type="T"))
    named = gateway.get("/api/annotations/data/~3Cb~3E~26~231.h5ad/labels.csv").headers["Content-Disposition"]
    assert named == "attachment; filename=\"_b___1-labels.csv\"; filename*=UTF-8''%3Cb%3E%26%231-labels.csv"


# --- who may change it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["restore", "adopt", "save", "cancel", "upload"])
def test_neither_another_site_nor_a_form_without_the_token_changes_anything(
    action: str, gateway: Gateway, saved: Path
) -> None:
    before = annotations.versions(saved)
    target = f"/api/annotations/data/fine.h5ad/{action}"
    fields = {"version": before[-1].id, "_xsrf": gateway.xsrf_of("/annotations/data/fine.h5ad")}
    assert gateway.post(target, fields, Sec_Fetch_Site="cross-site", **PAGE).status == 403
    if action == "upload":
        assert upload(gateway, "fine.h5ad", csv(type="x"), **{"Sec-Fetch-Site": "cross-site"}).status == 403
        body = upload_without_token(csv(type="x"))
        kind = {"Content-Type": f"multipart/form-data; boundary={FORM}", **PAGE, **SAME_SITE}
        assert gateway.ask("POST", target, kind, body).status == 403
    else:
        assert gateway.post(target, {**fields, "_xsrf": "wrong"}, **PAGE, **SAME_SITE).status == 403
    assert gateway.get(target, **PAGE).status == 302  # nothing changes by GET
    assert annotations.versions(saved) == before


def upload_without_token(content: bytes) -> bytes:
    head = f'--{FORM}\r\nContent-Disposition: form-data; name="table"; filename="x"\r\n\r\n'
    return head.encode() + content + f"\r\n--{FORM}--\r\n".encode()


def test_a_read_only_gateway_shows_labels_and_refuses_every_change(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data" / "fine.h5ad")
    place = where(tmp_path, "fine")
    annotations.write(place, annotations.LABELS, csv(type="T"), now=START)
    annotations.write(place, annotations.LABELS, csv(type="B"), now=START + 60)
    first = annotations.versions(place)[-1]
    with running_gateway(tmp_path, "--read-only", python=sys.executable) as reader:
        text = reader.get(f"/annotations/data/fine.h5ad?version={first.id}", **PAGE).text
        assert "30 of 30" in text.replace("\u202f", " ")
        assert "<form" not in text.partition("<main")[2]
        fields = {"version": first.id, "_xsrf": "x"}
        reply = reader.post("/api/annotations/data/fine.h5ad/restore", fields, Authorization="token x", **SAME_SITE)
        assert (reply.status, reply.problem["kind"]) == (403, "ReadOnly")
    assert annotations.read(place, annotations.LABELS) == csv(type="B")


def test_a_folder_that_is_a_link_is_neither_shown_nor_written_through(
    gateway: Gateway, folder: Path, tmp_path: Path
) -> None:
    write_dataset(folder / "data" / "linked.h5ad")
    annotations.write(tmp_path / "elsewhere", annotations.LABELS, csv(type="secret"))
    where(folder, "linked").symlink_to(tmp_path / "elsewhere")
    assert "secret" not in page(gateway, "linked.h5ad", 403)
    assert "secret" not in gateway.get("/api/annotations/data/linked.h5ad/labels.csv").text
    waiting = moved_to(upload(gateway, "linked.h5ad", csv(other="x"))).partition("upload=")[2]
    token = gateway.xsrf_of("/annotations/data/fine.h5ad")
    target = "/api/annotations/data/linked.h5ad/"
    assert gateway.post(target + "save", {"_xsrf": token, "upload": waiting}, **PAGE, **SAME_SITE).status == 507
    assert gateway.post(target + "cancel", {"_xsrf": token, "upload": waiting}, **PAGE, **SAME_SITE).status == 303
    assert annotations.read(tmp_path / "elsewhere", annotations.LABELS) == csv(type="secret")
    where(folder, "linked").unlink()


# --- the dataset with its labels -----------------------------------------------------------------------------------


def test_the_annotated_dataset_is_a_copy_with_the_labels_and_leaves_nothing_behind(
    gateway: Gateway, saved: Path, folder: Path, tmp_path: Path
) -> None:
    original = (folder / "data" / "fine.h5ad").read_bytes()
    reply = gateway.get("/api/annotations/data/fine.h5ad/annotated.h5ad", **PAGE)
    assert reply.status == 200
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    (tmp_path / "annotated.h5ad").write_bytes(reply.body)
    data = anndata.read_h5ad(tmp_path / "annotated.h5ad")
    assert list(data.obs["type"]) == ["</script><b>NK"] * 30
    assert list(data.uns["gene_sets"]["gene_symbol"]) == ["0"]
    assert (folder / "data" / "fine.h5ad").read_bytes() == original
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))


def test_a_picture_on_another_site_starts_no_copy(gateway: Gateway, saved: Path, folder: Path) -> None:
    target = "/api/annotations/data/fine.h5ad/annotated.h5ad"
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert gateway.ask("GET", target, foreign).status == 403
    assert not list((folder / "cache" / "exports").glob("*"))


def test_who_stops_waiting_for_a_copy_leaves_neither_a_child_nor_a_file(gateway: Gateway, folder: Path) -> None:
    write_dataset(folder / "data" / "large.h5ad", cells=3000, genes=5000)
    annotations.write(where(folder, "large"), annotations.LABELS, csv(type="T"))
    exports = folder / "cache" / "exports"

    def copying() -> bool:
        return any("annotate" in each.cmdline() for each in gateway.workers())

    connection = UnixConnection(gateway.path)
    connection.request("GET", "/api/annotations/data/large.h5ad/annotated.h5ad", headers=PAGE)
    until_now(copying)
    connection.close()
    until_now(lambda: not copying() and not list(exports.iterdir()))


def test_who_does_not_read_a_copy_keeps_others_from_theirs_only_for_a_while(tmp_path: Path) -> None:
    hasty = tmp_path / "hasty"
    change = "from cxg_proxy import annotating, app; annotating.STALL_SECONDS = 0.5; app.main()"
    hasty.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" -c "{change}" "$@"\n')
    hasty.chmod(0o755)
    write_dataset(tmp_path / "data" / "large.h5ad", cells=3000, genes=5000)
    annotations.write(where(tmp_path, "large"), annotations.LABELS, csv(type="T"))
    with running_gateway(tmp_path, python=sys.executable, by=str(hasty)) as gateway:
        silent = [UnixConnection(gateway.path) for _ in range(2)]
        target = "/api/annotations/data/large.h5ad/annotated.h5ad"
        for each in silent:
            each.request("GET", target, headers=PAGE)
        assert [each.getresponse().status for each in silent] == [200, 200]
        until_now(lambda: gateway.get(target, **PAGE).status == 200)
        for each in silent:
            each.close()


def test_labels_that_do_not_fit_are_told_instead_of_a_file(gateway: Gateway, folder: Path) -> None:
    place = where(folder, "two names")
    annotations.write(place, annotations.LABELS, csv(kind="x"))
    reply = gateway.get("/api/annotations/data/two~20names.h5ad/annotated.h5ad", **PAGE)
    assert reply.status == 422
    assert "the dataset itself has a category named" in reply.text
    (place / annotations.LABELS).unlink()
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))


# --- tables from elsewhere -----------------------------------------------------------------------------------------


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


# --- datasets that were moved, or whose cells have changed ---------------------------------------------------------


def test_labels_of_a_dataset_that_was_renamed_are_offered_and_taken_over_on_request(
    gateway: Gateway, folder: Path
) -> None:
    names = tuple(anndata.read_h5ad(folder / "data" / "moved.h5ad").obs_names)
    about = annotations.About("old.h5ad", "/gone/old.h5ad", len(names), annotations.identifiers_digest(names))
    old = annotations.named(folder / "labels", "/gone/old.h5ad")
    annotations.write(old, annotations.LABELS, csv(names, old="T"), about=lambda: about)
    address = gateway.open("data/moved.h5ad")
    until_now(lambda: gateway.get(address + "cxg-proxy/state").json["offer"])
    state = gateway.get(address + "cxg-proxy/state").json
    assert state["labels"] == "../../../../annotations/data/moved.h5ad"
    assert annotations.saved(where(folder, "moved")) is None  # nothing is adopted without a click
    text = page(gateway, "moved.h5ad")
    assert "old.h5ad" in text
    assert "Use these labels" in text
    for wrong in ("", "..", "../../etc", where(folder, "grown").name):
        assert change(gateway, "moved.h5ad", "adopt", folder=wrong).status == 404
    to = moved_to(change(gateway, "moved.h5ad", "adopt", folder=old.name))
    assert "now this dataset" in gateway.get(to, **PAGE).text
    assert annotations.read(where(folder, "moved"), annotations.LABELS) == csv(names, old="T")
    described = annotations.described(where(folder, "moved"))
    assert described
    assert (described.name, described.identifiers) == ("moved.h5ad", about.identifiers)
    assert annotations.read(old, annotations.LABELS) == csv(names, old="T")
    assert gateway.get(address + "cxg-proxy/state").json["offer"] is False


def test_the_numbers_are_told_when_the_cells_have_changed_since_the_labels_were_saved(
    gateway: Gateway, folder: Path
) -> None:
    place, cells = where(folder, "grown"), (*CELLS[:25], "gone")
    about = annotations.About("grown.h5ad", "/x/grown.h5ad", 26, annotations.identifiers_digest(cells))
    annotations.write(place, annotations.LABELS, csv(cells, type="T"), about=lambda: about)
    until_now(lambda: facts(gateway, "grown.h5ad")["fit"])
    text = page(gateway, "grown.h5ad").replace("\u202f", " ")
    assert "25 of its 40 cells have labels, 15 have none, and 1 labelled cells are not in it" in " ".join(text.split())


def test_the_card_of_a_dataset_leads_to_its_labels(gateway: Gateway, saved: Path) -> None:
    def card() -> Any:
        found = gateway.get("/api/datasets?q=fine").json["datasets"]
        return found[0] if found else {}

    until_now(lambda: card().get("labels_saved"))
    assert card()["labels"] == "annotations/data/fine.h5ad"
    assert gateway.get("/?q=fine", **PAGE).text.count('href="annotations/data/fine.h5ad"') == 2
