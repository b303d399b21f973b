"""Behind a proxy that shows us below a prefix, on a port, with a token that the host has made: what cookies, frames
and logs do then."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from cxg_proxy.gateway.web import security
from ports import TOKEN, ask, on_a_port

HEADER = "x-galaxy-entry-point-path"
PREFIX = "/interactivetool/ep/0a1b/c2d3"


def test_a_token_that_the_host_has_made_lets_in_and_is_printed_nowhere(tmp_path: Path) -> None:
    with on_a_port(tmp_path) as port:
        assert ask(port, "/").status == 403
        assert ask(port, f"/?token={TOKEN}").status == 302


def test_the_cookie_stays_below_the_prefix_that_the_proxy_names(tmp_path: Path) -> None:
    with on_a_port(tmp_path, f"--prefix-header={HEADER}") as port:
        cookie = ask(port, f"/?token={TOKEN}", **{HEADER: PREFIX}).headers["Set-Cookie"]
        assert f"Path={PREFIX}/" in cookie
        assert "Path=/;" in ask(port, f"/?token={TOKEN}").headers["Set-Cookie"] + ";"
    with on_a_port(tmp_path) as port:  # nobody was told to believe that header
        assert "Path=/;" in ask(port, f"/?token={TOKEN}", **{HEADER: PREFIX}).headers["Set-Cookie"] + ";"


@pytest.mark.parametrize(
    ("said", "secure"), [("https", True), ("HTTPS, http", True), ("http", False), ("http, https", False), ("", False)]
)
def test_the_cookie_is_for_https_alone_where_the_first_proxy_was_asked_by_it(
    said: str, secure: bool, tmp_path: Path
) -> None:
    with on_a_port(tmp_path) as port:
        cookie = ask(port, f"/?token={TOKEN}", X_Forwarded_Proto=said).headers["Set-Cookie"]
    assert ("; Secure" in cookie) == secure
    assert "HttpOnly" in cookie


@given(st.text(st.characters(max_codepoint=255), max_size=20).map(lambda text: f"/a/{text}"))
def test_a_prefix_of_any_letters_never_writes_another_part_of_a_cookie(said: str) -> None:
    path = security.prefix({HEADER: said}, HEADER)
    assert path.startswith("/")
    assert path.endswith("/")
    assert not set(path) & set('; ,\r\n\0"\\')
    assert security.prefix(HTTPHeaders({HEADER: PREFIX}), HEADER) == f"{PREFIX}/"


def test_pages_may_be_framed_by_the_hosts_site_where_it_is_named_and_else_by_our_own_alone(tmp_path: Path) -> None:
    login = {"Authorization": f"token {TOKEN}"}
    with on_a_port(tmp_path, "--Gateway.frame_ancestors=https://galaxy.example") as port:
        for target, status in (("/", 200), ("/nothing", 404), ("/view/data/pbmc.h5ad/", 200)):
            reply = ask(port, target, **login)
            assert reply.status == status
            assert "frame-ancestors 'self' https://galaxy.example" in reply.headers["Content-Security-Policy"]
    with on_a_port(tmp_path) as port:
        assert ask(port, "/", **login).headers["Content-Security-Policy"].endswith("frame-ancestors 'self'")


@pytest.mark.parametrize("site", ["*", "https://a b", "https://x; script-src *", "galaxy.example"])
def test_a_site_that_is_no_site_is_refused_with_a_sentence(site: str) -> None:
    command = [sys.executable, "-m", "cxg_proxy", f"--Gateway.frame_ancestors={site}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "is not a site such as https://example.org" in ended.stderr


def test_the_galaxy_door_listens_before_anything_is_loaded_and_whoever_connects_then_is_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = (
        "import sys\n"
        "from cxg_proxy import __main__\n"
        "from cxg_proxy.doors.early_socket import listening\n"
        f"sockets = listening(['--ip=127.0.0.1', '--port={port}', 'x.h5ad'])\n"
        f"import socket; socket.create_connection(('127.0.0.1', {port})).close()\n"
        "assert not {'tornado', 'traitlets', 'asyncio'} & set(sys.modules)\n"
        f"assert listening(['--ip=127.0.0.1', '--port={port}']) == []\n"  # taken: said later, with a sentence
        "assert listening(['--port=x']) == listening([]) == listening(['--port=0']) == []\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
