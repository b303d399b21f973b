"""Labels as cellxgene's page saves and receives them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pandas as pd
from server.common.fbs.matrix import decode_matrix_fbs, encode_matrix_fbs

from cxg_proxy.annotations.merge import SeenState
from viewer_fixtures import Reply, Server

CELLS = 60  # in the dataset that pages label
BINARY = {"Content_Type": "application/octet-stream", "Accept": "application/octet-stream"}


def table(**columns: Sequence[str]) -> bytes:
    """Encode labels as cellxgene's page sends them."""
    frame = pd.DataFrame({name: pd.Categorical(values) for name, values in columns.items()})
    return zlib.compress(bytes(encode_matrix_fbs(frame, col_idx=frame.columns)))


def read(server: Server, category: str) -> list[str]:
    """Read one category as cellxgene's page receives it."""
    reply = server.api(f"annotations/obs?annotation-name={category}", **BINARY)
    assert reply.status == 200, reply.body
    return list(decode_matrix_fbs(reply.body)[category])


def save(server: Server, query: str = "", **columns: Sequence[str]) -> Reply:
    return server.api(f"annotations/obs{query}", "PUT", table(**columns), **BINARY)


class Page:
    """An open page: with each save it sends back the state that it received with its last reply, as `strip.js` does."""

    def __init__(self, server: Server, name: str = "one"):
        self.server, self.name = server, name
        self.columns: dict[str, list[str]] = {}
        self.sets: dict[str, list[str]] = {}
        schema = server.api("schema")
        self.known = SeenState.from_text(schema.headers["X-Labels-Known"])
        for column in schema.json["schema"]["annotations"]["obs"]["columns"]:
            if column["writable"]:
                self.columns[column["name"]] = read(server, column["name"])
        reply = server.api("genesets", Accept="application/json", X_Labels_Tab=name)
        self.known_sets, self.tid = SeenState.from_text(reply.headers["X-Labels-Known"]), reply.json["tid"]
        for each in reply.json["genesets"]:
            self.sets[each["geneset_name"]] = [gene["gene_symbol"] for gene in each["genes"]]

    def save(self, **changes: str | None) -> Reply:
        for name, label in changes.items():
            if label is None:
                del self.columns[name]
            else:
                self.columns[name] = [label] * CELLS
        known = {"X_Labels_Known": str(self.known), "X_Labels_Tab": self.name}
        reply = self.server.api("annotations/obs", "PUT", table(**self.columns), **BINARY, **known)
        assert reply.status == 200
        self.known = SeenState.from_text(reply.headers["X-Labels-Known"])
        return reply

    def save_sets(self, **changes: list[str] | None) -> Reply:
        self.sets = {name: genes for name, genes in {**self.sets, **changes}.items() if genes is not None}
        self.tid += 1
        plain = [
            {"geneset_name": name, "geneset_description": "", "genes": [{"gene_symbol": gene} for gene in genes]}
            for name, genes in self.sets.items()
        ]
        known = {"X_Labels_Known": str(self.known_sets), "X_Labels_Tab": self.name}
        reply = self.server.api("genesets", "PUT", {"genesets": plain, "tid": self.tid}, **known)
        assert reply.status == 200, reply.body
        self.known_sets = SeenState.from_text(reply.headers["X-Labels-Known"])
        return reply
