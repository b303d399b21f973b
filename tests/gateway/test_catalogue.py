"""The list of datasets, through a whole gateway: found, described, searched, sorted and cut into pages."""

from pathlib import Path

from gateways import Serve, a_serve  # noqa: F401 - fixtures
from waiting import until_now


def test_the_list_shows_each_dataset_and_its_json_twin_says_the_same(serve: Serve) -> None:
    gateway = serve("pbmc", "sub/lung")
    page = gateway.get("/", Accept="text/html").text
    twin = gateway.get("/api/datasets").json
    for card in twin["datasets"]:
        assert f'href="{card["href"]}"' in page
    assert [card["name"] for card in twin["datasets"]] == ["data/pbmc.h5ad", "data/sub/lung.h5ad"]


def test_summaries_appear_when_they_have_been_read(serve: Serve) -> None:
    gateway = serve("pbmc")
    until_now(lambda: gateway.get("/api/datasets").json["datasets"][0]["cells"] == 3)
    preview = gateway.get("/api/preview/data/pbmc.h5ad")
    assert preview.headers["Content-Type"].startswith("image/svg+xml")
    assert "#aa0000" in preview.text


def test_search_sort_and_pages(serve: Serve) -> None:
    gateway = serve(*(f"set-{n:03}" for n in range(70)), "lung")
    assert [card["label"] for card in gateway.get("/api/datasets?q=LUN").json["datasets"]] == ["lung"]
    first = gateway.get("/api/datasets?folder=data").json
    assert (len(first["datasets"]), first["pages"], first["total"]) == (60, 2, 71)
    assert len(gateway.get("/api/datasets?folder=data&page=2").json["datasets"]) == 11
    assert gateway.get("/api/datasets?folder=data&page=99&sort=nonsense").json["page"] == 2
    assert gateway.get("/?q=%3Cscript%3E&page=-1&folder=..", Accept="text/html").status == 200


def test_the_largest_come_first_even_from_pages_that_were_never_shown(serve: Serve) -> None:
    gateway = serve(*(f"set-{n:03}" for n in range(1, 71)))
    first = "/api/datasets?sort=cells"
    until_now(lambda: gateway.get(first).json["datasets"][0]["cells"] == 70)
    assert [card["cells"] for card in gateway.get(first).json["datasets"][:3]] == [70, 69, 68]


def test_a_new_file_is_seen_at_the_next_look(serve: Serve, tmp_path: Path) -> None:
    gateway = serve("pbmc")
    (tmp_path / "data" / "new.h5ad").write_bytes(b"")
    until_now(lambda: len(gateway.get("/api/datasets").json["datasets"]) == 2)


def test_the_list_of_1000_datasets_is_cut_into_pages_of_bounded_size(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for n in range(1000):
        (tmp_path / "data" / f"{n:04}.h5ad").write_bytes(b"")
    gateway = serve()
    until_now(lambda: gateway.get("/api/datasets?folder=data").json["total"] == 1000)
    assert len(gateway.get("/?folder=data", Accept="text/html").body) < 200_000
