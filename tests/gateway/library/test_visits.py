"""What is remembered of the datasets that were opened, between runs of the gateway."""

from __future__ import annotations

import os
from pathlib import Path

from cxg_proxy.gateway.library.visits import Visit, Visits
from gateways import running_gateway


def test_a_visit_that_an_earlier_version_has_noted_tells_no_state(tmp_path: Path) -> None:
    (tmp_path / "visits.json").write_text('{"/a.h5ad": {"opened": 1.0, "seconds": 2.0}}')
    visits = Visits(tmp_path / "visits.json")
    visits.load()
    assert visits.get(Path("/a.h5ad")) == Visit(1.0, 2.0, "", "")


def test_what_is_visited_while_the_file_is_read_counts_more_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "visits.json").write_text('{"/a.h5ad": {"opened": 1.0, "seconds": 2.0}}')
    visits = Visits(tmp_path / "visits.json")
    visits.add(Path("/a.h5ad"), Visit(3.0, 4.0))
    visits.load()
    assert visits.get(Path("/a.h5ad")) == Visit(3.0, 4.0)


def test_a_gateway_whose_home_does_not_answer_starts_and_lists_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "cache" / "visits.json")  # who opens it waits for a writer, as on a disk that hangs
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.h5ad").write_bytes(b"")
    with running_gateway(tmp_path) as gateway:
        assert [card["name"] for card in gateway.get("/api/datasets").json["datasets"]] == ["data/a.h5ad"]
