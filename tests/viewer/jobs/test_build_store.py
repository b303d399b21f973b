"""What makes a store for a viewer or for an administrator: whom it is opened to, and what it takes from others."""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.errors import ChangedMeanwhile
from cxg_proxy.viewer.jobs import build_store
from cxg_proxy.viewer.store import permissions
from cxg_proxy.viewer.store.cache import Stores
from cxg_proxy.viewer.store.origin import Origin
from stores_fixtures import BEN, LAB, MEMORY, PLENTY, ignore, needs_root, never, write

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # cellxgene's import of anndata
    from cxg_proxy.viewer.cellxgene import cache_warming

pytest_plugins = ["stores_plugin"]


def owned(path: Path, owner: int, group: int, mode: int, seed: int = 1) -> Path:
    write(path, seed=seed)
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def prepared(dataset: Path, shared: Path, *, for_others: bool = True) -> Any:
    order = build_store.BuildOrder(str(dataset), shared, for_others=for_others)
    return build_store._prepare(order, lambda _: None, threading.Event())


def closed(folder: Path) -> bool:
    """Whether nothing of a store can be read by everybody."""
    return not any(path.stat().st_mode & stat.S_IRWXO for path in (folder, *folder.rglob("*")))


@needs_root
def test_a_link_that_leads_elsewhere_meanwhile_opens_no_store_to_those_who_may_read_what_is_there(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = owned(site / "data" / "secret.h5ad", 0, LAB, 0o640)
    bens = owned(site / "ben" / "own.h5ad", BEN, BEN, 0o644, seed=2)
    link = site / "ben" / "x.h5ad"
    link.symlink_to(secret)
    replied: list[str] = []
    monkeypatch.setattr(cache_warming, "make", lambda *given: replied.append(given[1].path))
    prepared(link, site / "shared")
    (folder,) = (site / "shared" / "stores").iterdir()
    assert closed(folder)
    make: Callable[..., Any] = Stores.make

    def pointed_elsewhere(*given: Any) -> Any:
        there = make(*given)
        link.unlink()
        link.symlink_to(bens)
        return there

    monkeypatch.setattr(Stores, "make", pointed_elsewhere)
    prepared(link, site / "shared")
    assert replied == [str(secret)] * 2
    assert closed(folder)
    assert folder.stat().st_gid == LAB


@needs_root
def test_a_file_that_another_takes_the_place_of_does_not_open_the_store_of_the_first(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = owned(site / "data" / "cells.h5ad", 0, LAB, 0o640)
    bens = owned(site / "ben.h5ad", BEN, BEN, 0o644, seed=2)
    stores = Stores(site / "shared", None, limit=PLENTY, memory=MEMORY, for_others=True)
    folder = stores.make(Origin.of(str(source)), ignore, never).folder
    find: Callable[..., Any] = stores.find

    def replaced(*given: Any) -> Any:
        there = find(*given)
        bens.replace(source)
        return there

    monkeypatch.setattr(stores, "find", replaced)
    with pytest.raises(ChangedMeanwhile):
        stores.make(Origin.of(str(source)), ignore, never)
    assert closed(folder)
    stores.close()


@needs_root
def test_a_new_store_is_not_opened_when_its_file_is_replaced_in_the_last_instant(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = owned(site / "data" / "cells.h5ad", 0, LAB, 0o640)
    bens = owned(site / "ben.h5ad", BEN, BEN, 0o644, seed=2)
    share: Callable[..., Any] = permissions.share
    seen: list[int] = []

    def late(folder: Path, *given: Any) -> None:
        bens.replace(source)
        try:
            share(folder, *given)
        finally:
            seen.append(stat.S_IMODE(folder.stat().st_mode))

    monkeypatch.setattr(permissions, "share", late)
    stores = Stores(site / "shared", None, limit=PLENTY, memory=MEMORY, for_others=True)
    with pytest.raises(ChangedMeanwhile):
        stores.make(Origin.of(str(source)), ignore, never)
    assert seen == [0o700]
    assert list((site / "shared" / "stores").iterdir()) == []
    stores.close()


@pytest.mark.parametrize("for_others", [True, False])
def test_only_who_prepares_for_many_has_the_system_forget_the_file(
    for_others: bool, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, forgotten = write(site / "cells.h5ad"), []
    monkeypatch.setattr(cache_warming, "make", lambda *_: None)
    monkeypatch.setattr(os, "posix_fadvise", lambda descriptor, *_: forgotten.append(os.fstat(descriptor).st_ino))
    assert prepared(source, site / "cache", for_others=for_others)["made"]
    assert forgotten == ([source.stat().st_ino] if for_others else [])  # others build from it now, each for themselves
    assert not prepared(source, site / "cache", for_others=for_others)["made"]
    assert len(forgotten) == for_others
