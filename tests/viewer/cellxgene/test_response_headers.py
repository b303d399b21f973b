"""What leaves a worker: whole, private, without cookies, and under a policy that cellxgene's page works with."""

import base64
import gzip
import hashlib
import http.client
import re
import tracemalloc
import zlib

import brotli
import pytest
from flask import Flask, Response
from flask_compress.compat import compression
from werkzeug.test import EnvironBuilder

from cxg_proxy.viewer.cellxgene import response_headers
from viewer_fixtures import Server, worker

pytest_plugins = ["viewer_plugin"]

BINARY = "application/octet-stream"
UNPACK = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": compression.zstd.decompress,
}
SMALL = "annotations/var?annotation-name=name_0&annotation-name=nothing".partition("&")[0]
LARGE = "data/var?" + "&".join(f"var:name_0=gene{number}" for number in range(20))


@pytest.mark.parametrize("encoding", UNPACK)
@pytest.mark.parametrize("target", ["layout/obs", SMALL, LARGE, "colors"])
@pytest.mark.hazard(1)
def test_a_reply_is_whole_in_every_size_and_encoding(shown: Server, target: str, encoding: str) -> None:
    accept = "application/json" if target == "colors" else BINARY
    whole = shown.api(target, Accept=accept, Accept_Encoding="identity")
    packed = shown.api(target, Accept=accept, Accept_Encoding=encoding)
    assert whole.status == packed.status == 200
    assert len(whole.body) == int(whole.headers["Content-Length"]) > 0
    used = packed.headers.get("Content-Encoding", "identity")
    assert used == encoding or len(whole.body) < 500
    assert UNPACK[used](packed.body) == whole.body


@pytest.mark.filterwarnings("ignore::FutureWarning")  # cellxgene's import of anndata
@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
@pytest.mark.hazard(1)
def test_a_body_leaves_as_bytes_and_a_large_one_is_not_copied_whole(encoding: str) -> None:
    from cxg_proxy.viewer.cellxgene.application import _Viewer, _whole  # noqa: PLC0415 - it warns while it is imported

    bodies = {"/small": bytearray(b"small"), "/large": bytearray(bytes(range(256)) * 4096 * 32)}
    app = Flask("bodies")
    _Viewer._before_adding_routes(app, None)
    app.after_request(_whole)
    app.add_url_rule("/<name>", view_func=lambda name: Response(bodies[f"/{name}"], mimetype=BINARY))
    for path, body in bodies.items():
        environ = EnvironBuilder(path, headers={"Accept-Encoding": encoding}).get_environ()
        tracemalloc.start()
        try:
            for chunk in app.wsgi_app(environ, lambda *_: None):
                assert type(chunk) is bytes
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < len(body) / 4 + 2**20


@pytest.mark.hazard(1)
def test_plain_cellxgene_cuts_an_uncompressed_reply(plain: Server) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        plain.api("layout/obs", Accept=BINARY, Accept_Encoding="identity")


def test_the_page_is_cellxgenes_own(shown: Server) -> None:
    page = shown.ask("/")
    assert page.status == 200
    for target in re.findall(rb'(?:src|href)="([^"]+)"', page.body):
        assert shown.ask("/" + target.decode()).status == 200
    script = re.search(rb'src="(static/main-\w+\.js)"', page.body)
    assert script
    assert len(shown.ask("/" + script[1].decode()).body) > 1_000_000


@pytest.mark.hazard(5)
def test_no_cookie_is_ever_set(shown: Server, plain: Server) -> None:
    for target in ("/", "/api/v0.2/config", "/api/v0.2/schema", "/api/v0.2/genesets", "/nothing"):
        reply = shown.ask(target, Accept="application/json, text/html")
        assert "Set-Cookie" not in reply.headers
        assert "Cookie" not in reply.headers.get("Vary", "")
    assert "Set-Cookie" in plain.api("config").headers


@pytest.mark.hazard(20)
def test_plain_cellxgene_lets_every_cache_keep_private_labels(plain: Server) -> None:
    for target, accept in (("annotations/obs", BINARY), ("schema", "application/json")):
        kept = plain.api(target, Accept=accept, Accept_Encoding="gzip").headers["Cache-Control"]
        assert {"public", "max-age=604800"} <= set(kept.split(", "))


@pytest.mark.hazard(20)
def test_data_is_private_and_asked_for_again(shown: Server) -> None:
    reply = shown.api("annotations/obs?annotation-name=kind", Accept=BINARY)
    assert reply.headers["Cache-Control"] == "private, no-cache"
    again = shown.api("annotations/obs?annotation-name=kind", Accept=BINARY, If_None_Match=reply.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    other = shown.api("annotations/obs?annotation-name=size", Accept=BINARY, If_None_Match=reply.headers["ETag"])
    assert other.status == 200


def test_files_named_by_their_content_may_be_kept(shown: Server) -> None:
    name = re.search(rb'"(static/main-\w+\.css)"', shown.ask("/").body)
    assert name
    assert "immutable" in shown.ask("/" + name[1].decode()).headers["Cache-Control"]
    assert shown.ask("/static/nothing.js").headers["Cache-Control"] == "private, no-cache"


def test_the_policy_allows_the_pages_own_inline_scripts_and_no_others(shown: Server) -> None:
    page = shown.ask("/")
    policy = page.headers["Content-Security-Policy"]
    inline = re.findall(rb"<script type=\"text/javascript\">(.+?)</script>", page.body, re.DOTALL)
    assert len(inline) == 1
    digest = base64.b64encode(hashlib.sha256(inline[0]).digest()).decode()
    assert f"script-src 'self' 'unsafe-eval' 'sha256-{digest}';" in policy
    assert "frame-ancestors 'self'" in policy


def test_the_policy_names_the_origins_of_configured_scripts_only() -> None:
    scripts = [{"src": "https://stats.example.org/a.js"}, {"src": "../kept.js"}, {"src": "//cdn.example.org:8443/b.js"}]
    policy = response_headers.content_security_policy(b"<script src='x'></script><script>a\r\nb</script>", scripts)
    digest = base64.b64encode(hashlib.sha256(b"a\nb").digest()).decode()
    assert f"'unsafe-eval' 'sha256-{digest}' cdn.example.org:8443 https://stats.example.org;" in policy


def test_an_error_of_the_viewer_is_a_json_sentence_and_a_traceback_in_the_log(shown: Server, plain: Server) -> None:
    reply = shown.api("nothing")
    assert reply.status == 404
    assert reply.json["message"].startswith("The requested URL was not found")
    assert plain.steps[-1]["tracebacklimit"] == 0  # cellxgene switches tracebacks off for the whole process


def test_colours_that_cannot_be_used_are_left_out(shown: Server, plain: Server) -> None:
    assert shown.api("colors").json == {"kind": {"B": "#ff0000", "NK": "#00ff00", "T": "#0000ff"}}
    assert plain.api("colors").status == 500


def test_options_reach_the_page(small, tmp_path) -> None:
    options = {
        "title": "Ünser <b>",
        "about": "https://example.org/about",
        "embedding": "tsne",
        "max-category-items": 7,
        "obs_names": None,
        "disable_diffexp": True,
        "diffexp_lfc_cutoff": 1,
        "scripts": ["https://stats.example.org/a.js"],
    }
    with worker(small, options=options, extra=["--read-only"]) as server:
        config = server.api("config").json["config"]
        assert config["displayNames"]["dataset"] == "Ünser <b>"
        assert config["links"]["about-dataset"] == "https://example.org/about"
        assert config["parameters"]["max-category-items"] == 7
        assert config["parameters"]["disable-diffexp"] is True
        assert config["parameters"]["annotations"] is False
        assert config["parameters"]["annotations_genesets_readonly"] is True
        layouts = server.api("schema").json["schema"]["layout"]["obs"]
        assert [layout["name"] for layout in layouts] == ["tsne"]
        page = server.ask("/")
        assert b'src="https://stats.example.org/a.js"' in page.body
        assert "https://stats.example.org;" in page.headers["Content-Security-Policy"]
        assert server.api("annotations/obs", "PUT", zlib.compress(b"x")).status == 501
        assert server.api("genesets", "PUT", {"genesets": [], "tid": 1}).status == 501
        assert not (server.place / "labels").exists()
        assert server.cut_leash() == 0
