"""Datasets at remote addresses: downloaded into the cache, continued when broken off, renewed."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from cxg_proxy.errors import NotDownloaded
from cxg_proxy.gateway.library.download import ABANDONED_SECONDS, sweep
from cxg_proxy.gateway.library.http_client import RequestFailed, onward, usable
from remote_site import CONTENT, SECRET, Here, Site, a_site, a_user  # noqa: F401 - fixtures

# --- one download --------------------------------------------------------------------------------------------------


async def test_what_is_downloaded_is_what_was_there_and_only_its_owner_may_read_it(here: Here, site: Site) -> None:
    before = here.library.find("remote/atlas.h5ad")
    assert (before.exists, before.bytes) == (False, 0)
    after = await here.fetch()
    assert here.file.read_bytes() == CONTENT
    assert after == here.library.find("remote/atlas.h5ad")
    assert (after.exists, after.bytes) == (True, len(CONTENT))
    assert here.shares[-1] == 1
    assert here.file.stat().st_mode & 0o777 == 0o600
    assert here.file.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(each.name for each in here.file.parent.iterdir()) == [
        "atlas.h5ad",
        "atlas.h5ad.json",
        "atlas.h5ad.lock",
    ]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stop_at": 100_000}, "the connection broke off"),
        ({"status": 404}, "status 404"),
        ({"status": 500}, "status 500"),
        ({"status": 416}, "status 416"),
        ({"status": 206}, "status 206"),
        ({"hold_at": 1000}, "silent for 0 s"),
        ({"location": "file:///etc/passwd"}, "neither http nor https"),
        ({"location": "ftp://127.0.0.1/x"}, "neither http nor https"),
        ({"location": f"/again?{SECRET}"}, "on for ever"),
        ({"status": 302}, "neither http nor https"),
    ],
)
async def test_what_goes_wrong_is_said_with_the_name_and_without_the_address(
    how: dict[str, Any], said: str, here: Here, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    vars(site).update(how)
    if "hold_at" in how:
        here.wait_at_most(0.4)
    with caplog.at_level(logging.DEBUG), pytest.raises(NotDownloaded, match=said) as caught:
        await here.fetch()
    assert caught.value.which == "atlas"
    assert not here.file.exists()
    for text in (json.dumps(caught.value.to_json()), caplog.text):
        assert SECRET not in text
        assert "127.0.0.1" not in text


async def test_a_server_that_is_not_there_is_said_to_be(tmp_path: Path, site: Site) -> None:
    site.close()
    with pytest.raises(NotDownloaded, match=r"cannot be reached: Connection refused|cannot be reached"):
        await Here(tmp_path, site.address).fetch()


async def test_a_redirect_to_another_server_is_followed_and_takes_no_password_along(tmp_path: Path, site: Site) -> None:
    first = Site()
    try:
        first.location = site.address
        await Here(tmp_path, first.address.replace("//", "//ana:password@")).fetch()
    finally:
        first.close()
    assert "authorization" in first.asked[0]
    assert "authorization" not in site.asked[0]
    assert (tmp_path / "remote" / "atlas.h5ad").read_bytes() == CONTENT


def test_only_addresses_that_can_be_asked_are_followed() -> None:
    for wrong in ("file:///etc/passwd", "http://", "http://h:x/", "http://h/a b", "http://h/\r\nX: y", "http://[::1/"):
        assert not usable(wrong)
    assert onward("https://h/a/b?x", "../c") == "https://h/c"
    with pytest.raises(RequestFailed, match="from https to http"):
        onward("https://h/a", "http://h/a")


# --- again ---------------------------------------------------------------------------------------------------------


async def broken_off(here: Here, site: Site, at: int = 200_000) -> None:
    site.stop_at = at
    with pytest.raises(NotDownloaded):
        await here.fetch()
    assert here.part.read_bytes() == site.content[:at]
    site.stop_at = None


@pytest.mark.parametrize(("etag", "modified"), [('"one"', ""), ("", "Mon, 01 Jan 2024 00:00:00 GMT")])
@pytest.mark.hazard(22)
async def test_a_download_that_broke_off_goes_on_where_it_stopped(
    etag: str, modified: str, here: Here, site: Site
) -> None:
    site.etag, site.modified = etag, modified
    await broken_off(here, site)
    await here.fetch()
    assert site.asked[-1]["range"] == "bytes=200000-"
    assert site.asked[-1]["if-range"] == (etag or modified)
    assert site.sent == [len(CONTENT), len(CONTENT) - 200_000]
    assert here.file.read_bytes() == CONTENT


async def test_a_server_that_sends_less_than_is_missing_is_asked_again(here: Here, site: Site) -> None:
    await broken_off(here, site)
    site.most = 300_000
    with pytest.raises(NotDownloaded, match="500000 of 640000 bytes came"):
        await here.fetch()
    assert not here.file.exists()
    await here.fetch()
    assert here.file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "how",
    [
        {"ranges": False},
        {"etag": '"two"', "content": CONTENT[::-1]},
        {"etag": '"two"', "content": CONTENT[::-1], "if_range": False},
        {"etag": '"two"', "content": b"short", "status": 0},
        {"content": CONTENT + b"longer", "if_range": False},
    ],
)
async def test_a_part_that_cannot_be_continued_is_begun_anew(how: dict[str, Any], here: Here, site: Site) -> None:
    await broken_off(here, site)
    vars(site).update(how)
    await here.fetch()
    assert here.file.read_bytes() == site.content


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
async def test_without_a_mark_of_its_version_no_part_is_continued(etag: str, here: Here, site: Site) -> None:
    site.etag = etag
    await broken_off(here, site)
    site.content = CONTENT[::-1]
    await here.fetch()
    assert "range" not in site.asked[-1]
    assert here.file.read_bytes() == CONTENT[::-1]


async def test_a_part_of_another_address_is_not_continued(tmp_path: Path, here: Here, site: Site) -> None:
    await broken_off(here, site)
    site.content = CONTENT[::-1]
    await Here(tmp_path, site.address.replace("atlas", "other")).fetch()
    assert here.file.read_bytes() == CONTENT[::-1]


async def test_a_new_signature_does_not_make_another_address(tmp_path: Path, here: Here, site: Site) -> None:
    await broken_off(here, site)
    await Here(tmp_path, site.address + "-of-today").fetch()
    assert "range" in site.asked[-1]


async def test_a_part_that_is_whole_is_not_downloaded_again(here: Here, site: Site) -> None:
    await here.fetch()
    here.file.rename(here.part)
    here.file.with_name("atlas.h5ad.json").rename(here.part.with_name("atlas.h5ad.part.json"))
    await here.fetch()
    assert site.sent == [len(CONTENT)]
    assert here.file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "how", [{}, {"conditions": False}, {"etag": ""}, {"etag": "", "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
async def test_a_copy_that_is_still_right_is_kept(how: dict[str, Any], here: Here, site: Site) -> None:
    vars(site).update(how)
    first = await here.fetch()
    assert await here.fetch() == first
    assert len(site.asked) == 2


@pytest.mark.parametrize(
    "how",
    [
        {"etag": '"two"', "content": CONTENT[::-1]},
        {"etag": "", "content": CONTENT[1:]},
        {"conditions": False, "content": CONTENT[1:]},
    ],
)
async def test_a_copy_is_renewed_when_the_address_has_something_new(
    how: dict[str, Any], here: Here, site: Site
) -> None:
    first = await here.fetch()
    vars(site).update(how)
    second = await here.fetch()
    assert first.fingerprint != second.fingerprint
    assert here.file.read_bytes() == site.content


@pytest.mark.parametrize("how", [{"status": 403}, {"etag": '"two"', "stop_at": 1000}, {"hold_at": 10, "etag": '"2"'}])
async def test_a_copy_is_used_when_nothing_newer_can_be_had(
    how: dict[str, Any], here: Here, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await here.fetch()
    vars(site).update(how)
    if "hold_at" in how:
        here.wait_at_most(0.4)
    await here.fetch()
    assert here.file.read_bytes() == CONTENT
    assert "remote/atlas.h5ad: " in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.hazard(22)
def test_what_killed_downloads_left_goes_after_a_week(tmp_path: Path) -> None:
    names = ["a.h5ad", "a.h5ad.json", "a.h5ad.lock", "a.h5ad.part", "a.h5ad.part.json", ".a.h5ad.json-x"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    sweep(tmp_path, time.time() + ABANDONED_SECONDS - 60)
    assert {each.name for each in tmp_path.iterdir()} == set(names)
    sweep(tmp_path, time.time() + ABANDONED_SECONDS + 60)
    assert {each.name for each in tmp_path.iterdir()} == set(names[:3])
