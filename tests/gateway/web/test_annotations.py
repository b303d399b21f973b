"""The page of a dataset's labels, through a real gateway: what it shows, and who may change what."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cxg_proxy import annotations
from datasets import write_dataset
from gateways import PAGE, SAME_SITE, Gateway, running_gateway
from labels_gateway import (  # noqa: F401 - fixtures
    FORM,
    START,
    change,
    csv,
    facts,
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

pytestmark = pytest.mark.timeout(120)


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
        target, known = "/api/annotations/data/fine.h5ad/", {"Authorization": "token x", **SAME_SITE}
        for action in ("restore", "adopt", "save", "cancel"):
            reply = reader.post(target + action, {"version": first.id, "_xsrf": "x"}, **known)
            assert (reply.status, reply.problem["kind"]) == (403, "ReadOnly"), action
        form = {"Content-Type": f"multipart/form-data; boundary={FORM}", **known}
        reply = reader.ask("POST", target + "upload", form, upload_without_token(csv(type="x")))
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
