"""The link that a person sends to a colleague, as a whole gateway gives it."""

from __future__ import annotations

from pathlib import Path

from datasets import touch
from gateways import found, running_gateway

HUB = "/hub/user-redirect/cellxgene/"


def test_the_link_to_share_is_the_lists_and_none_leads_to_somebody_elses_home(tmp_path: Path) -> None:
    touch(tmp_path / "data" / "atlas.h5ad", tmp_path / "home" / "a" / "pbmc.h5ad")
    with running_gateway(tmp_path, f"--root={tmp_path / 'home'}", f"--share-prefix={HUB}") as gateway:
        assert found(gateway, tmp_path / "data" / "atlas.h5ad")["share"] == f"{HUB}view/data/atlas.h5ad/"
        assert found(gateway, "a/pbmc.h5ad")["share"] == ""


def test_a_link_at_home_to_a_shared_dataset_is_shared_by_the_name_that_colleagues_have_too(tmp_path: Path) -> None:
    touch(tmp_path / "data" / "deep" / "atlas.h5ad", tmp_path / "data" / ".old" / "x.h5ad", tmp_path / "far" / "y.h5ad")
    (tmp_path / "home").mkdir()
    for name, to in (("shared", "data"), ("old", "data/.old"), ("far", "far")):
        (tmp_path / "home" / name).symlink_to(tmp_path / to)
    with running_gateway(tmp_path, f"--root={tmp_path / 'home'}", f"--share-prefix={HUB}") as gateway:
        atlas = found(gateway, tmp_path / "home" / "shared" / "deep" / "atlas.h5ad")
        assert atlas["name"] == "home/shared/deep/atlas.h5ad"
        assert atlas["share"] == f"{HUB}view/data/deep/atlas.h5ad/"
        assert found(gateway, "old/x.h5ad")["share"] == ""  # there it is hidden
        assert found(gateway, "far/y.h5ad")["share"] == ""


def test_where_every_home_is_the_same_its_datasets_are_shared_too(tmp_path: Path) -> None:
    touch(tmp_path / "home" / "a b.h5ad")
    prefix = "https://binder.example.org/v2/gh/ana/data/main?urlpath=cellxgene/"
    options = (f"--root={tmp_path / 'home'}", f"--share-prefix={prefix}", "--Gateway.share_home=True")
    with running_gateway(tmp_path, *options) as gateway:
        assert found(gateway, "a b.h5ad")["share"] == f"{prefix}view/home/a~20b.h5ad/"
