"""Ports: a gateway that listens on one, and requests to it."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateways import COMMAND, viewer_python
from waiting import until_now

TOKEN = "made-by-the-host"


@contextmanager
def on_a_port(folder: Path, *options: str) -> Iterator[int]:
    """Start a gateway with a fake worker and our token; yields the port that it listens on."""
    log = folder / "gateway.log"
    command = [*COMMAND, "--port=0", f"--token={TOKEN}", f"--home={folder / 'home'}"]
    command += [f"--viewer-python={viewer_python(folder)}", f"--library=data={folder}", *options]
    (folder / "pbmc.h5ad").write_bytes(b"x")
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder)
    try:
        until_now(lambda: "listens on" in log.read_text() or process.poll() is not None)
        yield int(log.read_text().partition("127.0.0.1:")[2].partition("/")[0])
    finally:
        process.terminate()
        process.wait(10)
    assert TOKEN not in log.read_text()


def ask(port: int, target: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply
