"""A real gateway with labels, and the requests that a browser makes on their page."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy import annotations
from cxg_proxy.annotations.tables import GeneSet, LabelTable, gene_sets_csv, labels_csv
from datasets import write_dataset
from gateways import PAGE, SAME_SITE, Gateway, Reply, running_gateway

CELLS = tuple(str(number) for number in range(30))
START = time.time() - 300  # recent, so that no version is thinned
FORM = "----form"


@pytest.fixture(name="folder", scope="module")
def labels_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("labels")
    for name in ("fine", "two names", "moved", "<b>&#1"):
        write_dataset(place / "data" / f"{name}.h5ad")
    write_dataset(place / "data" / "grown.h5ad", cells=40)
    return place


@pytest.fixture(name="gateway", scope="module")
def labels_gateway(folder: Path) -> Iterator[Gateway]:
    with running_gateway(folder, python=sys.executable) as running:
        yield running


@pytest.fixture(autouse=True, scope="module")
def running_before(gateway: Gateway) -> None:
    """Start the gateway before the leftovers of a test are counted."""


def where(folder: Path, name: str) -> Path:
    return annotations.directory(folder / "labels", folder / "data" / f"{name}.h5ad")


def csv(cells: tuple[str, ...] = CELLS, **columns: str) -> bytes:
    return labels_csv(
        LabelTable("index", cells, {name: (label,) * len(cells) for name, label in columns.items()})
    ).encode()


@pytest.fixture(name="saved")
def saved_labels(folder: Path) -> Path:
    """Three versions of labels for the dataset `fine`, and its gene sets."""
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
    """Return the target of a redirect, from the gateway's root."""
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


def upload_without_token(content: bytes) -> bytes:
    head = f'--{FORM}\r\nContent-Disposition: form-data; name="table"; filename="x"\r\n\r\n'
    return head.encode() + content + f"\r\n--{FORM}--\r\n".encode()
