"""What a request's headers say of its sender and its body, as pure functions; whole gateways are asked elsewhere."""

from __future__ import annotations

import pytest

from cxg_proxy.errors import Refused
from cxg_proxy.gateway.web import security
from cxg_proxy.gateway.web.security import DRAIN_LIMIT


@pytest.mark.parametrize(
    ("said", "length"),
    [
        ("0", 0),
        (" 12 ", 12),
        ("9" * 19, int("9" * 19)),
        ("1" + "0" * 19, None),
        ("9" * 5000, None),  # Python itself refuses so many digits
        ("\N{SUPERSCRIPT TWO}", None),
        ("\N{ARABIC-INDIC DIGIT THREE}", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        ("1.0", None),
        ("0x10", None),
        ("1, 1", None),
        ("", None),
    ],
)
def test_a_length_is_a_number_of_plain_digits_or_unknown(said: str, length: int | None) -> None:
    headers = {"Content-Length": said}
    assert security.declared_length(headers) == length
    assert security.announces_body(headers) == (length != 0)


def test_a_request_without_a_length_has_no_body_unless_it_comes_in_chunks() -> None:
    assert security.declared_length({}) == 0
    assert not security.announces_body({})
    assert security.announces_body({"Transfer-Encoding": "chunked"})


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({}, False),
        ({"Content-Length": "0"}, False),
        ({"Content-Length": "1"}, True),
        ({"Content-Length": str(DRAIN_LIMIT)}, True),
        ({"Content-Length": str(DRAIN_LIMIT + 1)}, False),
        ({"Content-Length": "x"}, False),
        ({"Transfer-Encoding": "chunked"}, True),  # what reads it has a limit of its own
    ],
)
def test_a_refusal_waits_for_a_body_that_follows_and_is_not_endless(headers: dict[str, str], waits: bool) -> None:
    assert security.worth_draining(headers) == waits


@pytest.mark.parametrize(
    ("secret", "said", "equal"),
    [
        ("abc", "abc", True),
        ("abc", "ab", False),
        ("abc", "", False),
        ("", "", False),  # where there is no secret, nobody knows it
        ("abc", "\udcff", False),  # what no header should hold is wrong, and no fault
    ],
)
def test_nothing_equals_a_secret_that_is_empty(secret: str, said: str, equal: bool) -> None:
    assert security.equal_secrets(secret, said) == equal


@pytest.mark.parametrize(
    ("said", "token"),
    [
        ("token abc", "abc"),
        ("Bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
        ("Basic abc", ""),
        ("abc", ""),
        ("token", ""),
        ("", ""),
    ],
)
def test_a_token_is_what_follows_its_scheme(said: str, token: str) -> None:
    assert security.bearer({"Authorization": said}) == token


@pytest.mark.parametrize("origin", ["http://host.example:81", "https://HOST.example:81"])
def test_an_origin_is_ours_in_letters_of_either_case(origin: str) -> None:
    security.refuse_other_sites({"Origin": origin, "Host": "Host.Example:81"}, token_seen=False)
    for host in ("host.example", "host.example:8", "host.example:811", "other.example:81"):
        with pytest.raises(Refused, match=origin):
            security.refuse_other_sites({"Origin": origin, "Host": host}, token_seen=True)


def test_what_another_page_calls_its_origin_is_repeated_in_short() -> None:
    with pytest.raises(Refused) as refused:
        security.refuse_other_sites({"Origin": "https://" + "x" * 100_000, "Host": "host.example"}, token_seen=True)
    assert len(refused.value.detail) < 300
