"""The dataset with its labels, downloaded from a real gateway that has its copy made by a real child."""

from __future__ import annotations

import sys
from pathlib import Path

import anndata
import pytest

from cxg_proxy import annotations
from datasets import write_dataset
from gateways import PAGE, Gateway, UnixConnection, running_gateway
from labels_gateway import csv, labels_folder, labels_gateway, running_before, saved_labels, where  # noqa: F401 - fixtures
from waiting import until_now

pytestmark = pytest.mark.timeout(120)


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


def test_a_third_copy_at_once_is_refused_and_can_be_had_when_one_of_the_two_is_done(
    gateway: Gateway, folder: Path
) -> None:
    write_dataset(folder / "data" / "large.h5ad", cells=3000, genes=5000)
    target = "/api/annotations/data/large.h5ad/annotated.h5ad"
    silent = [UnixConnection(gateway.path) for _ in range(2)]
    for each in silent:
        each.request("GET", target, headers=PAGE)
    assert [each.getresponse().status for each in silent] == [200, 200]
    refused = gateway.get(target, **PAGE)
    assert refused.status == 503
    assert "copies of other datasets are being prepared" in refused.text
    for each in silent:
        each.close()
    until_now(lambda: gateway.get(target, **PAGE).status == 200)
    until_now(lambda: not list((folder / "cache" / "exports").iterdir()))


def test_who_does_not_read_a_copy_keeps_others_from_theirs_only_for_a_while(tmp_path: Path) -> None:
    hasty = tmp_path / "hasty"
    change = "from cxg_proxy import __main__ as m; from cxg_proxy.gateway.web import annotations as a"
    change += "; a.STALL_SECONDS = 0.5; m.main()"
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
