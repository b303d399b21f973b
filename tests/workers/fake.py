"""A fake worker that misbehaves on purpose; it talks to the gateway as the real one does.

Run it as `fake.py BEHAVIOUR SOCKET`, or as a gateway's --viewer-python with `-m cxg_proxy.viewer serve … -- DATASET`.
In the second case the behaviour is the start of the dataset's name (`slow-1.h5ad`), or else `mirror`.

quick     ready at once, then answers as `mirror`
mirror    replies with the request (method, target, headers, bytes of body), or as the query of the target says
slow      reports progress, and is ready only when the file SOCKET.go exists
deaf      ready, then ignores TERM and the end of its standard input
crashing  writes the reason to standard error and ends with status 3
gone      kills itself while loading
chatty    writes more than any log should hold, then is ready
silent    never writes anything
other     reports another version of itself
failing   reports a problem
preparing ready, but still preparing; reports progress with each new line in the file SOCKET.go
"""

import hashlib
import json
import os
import re
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cxg_proxy import __version__
from cxg_proxy.errors import NoEmbedding
from cxg_proxy.steps import Phase, Step

BEHAVIOURS = "quick mirror slow deaf crashing gone chatty silent other failing preparing".split()


def say(step):
    os.write(1, step.line())


def prepare(behaviour, socket):
    """After READY, report the progress in the lines of a file, until one holds null."""
    said, done = 0, 0.0 if behaviour == "preparing" else None
    while done is not None:
        time.sleep(0.01)
        lines = Path(f"{socket}.go").read_text().splitlines() if os.path.exists(f"{socket}.go") else []
        for line in lines[said:]:
            done, note = json.loads(line)
            os.write(1, b"a library prints\n")
            say(Step(Phase.READY, done=done, note=note))
        said = len(lines)


class Mirror(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def address_string(self):
        return "unix"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        digest, got = hashlib.sha256(), 0
        for piece in self.pieces(length):
            digest.update(piece)
            got += len(piece)
        asked = parse_qs(urlsplit(self.path).query)
        if "die" in asked:
            os.kill(os.getpid(), signal.SIGKILL)
        if "bytes" in asked:
            return self.big(int(asked["bytes"][0]), chunked="chunked" in asked, stop="stop" in asked)
        if "hang" in asked:
            time.sleep(30)  # longer than any test waits
        body = json.dumps(
            {
                "method": self.command,
                "target": self.path,
                "headers": [[name.lower(), value] for name, value in self.headers.items()],
                "bytes": got,
                "sha256": digest.hexdigest(),
                "pid": os.getpid(),
                "connection": id(self),
                "environment": dict(os.environ),
            }
        ).encode()
        self.send_response(int(asked.get("status", ["200"])[0]))
        for header in asked.get("header", []):
            name, _, value = header.partition(":")
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def pieces(self, length):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        while length > 0:
            piece = self.rfile.read(min(length, 1 << 16))
            if not piece:
                return
            length -= len(piece)
            yield piece

    def big(self, size, *, chunked, stop):
        """Send `size` bytes of a pattern; with `stop`, close the connection after half of them."""
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(size))))
        self.end_headers()
        block = bytes(range(256)) * 256
        sent = 0
        try:
            while sent < (size // 2 if stop else size):
                piece = block[: size - sent]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
            if chunked and not stop:
                self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        except OSError:
            with open(f"{self.server.server_address}.cut", "w") as note:
                note.write(str(sent))
        self.close_connection = self.close_connection or stop

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

    def log_message(self, text, *arguments):
        print(text % arguments, file=sys.stderr, flush=True)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def leave_with_the_leash():
    while os.read(0, 4096):
        pass
    os._exit(0)


def summarize():
    for line in sys.stdin:
        path = json.loads(line)
        cells = int(re.sub(r"\D", "", os.path.basename(path).removesuffix(".h5ad")) or 3) if "set-" in path else 3
        summary = {"path": path, "cells": cells, "genes": 2, "embeddings": ["umap"], "categories": [], "problem": None}
        many = [500] * 1997  # as many as a real preview has at most
        points = {"x": [0, 500, 1000, *many], "y": [0, 500, 1000, *many]}
        points["color"] = [0] * 1999 + [-1]
        points["palette"] = ["#aa0000"]
        print(json.dumps({**summary, "preview": {"embedding": "umap", "category": None, **points}}), flush=True)


def main():
    if sys.argv[1:3] == ["-m", "cxg_proxy.viewer"] and sys.argv[3] != "serve":
        summarize() if sys.argv[3] == "summarize" else sys.exit("a fake has nothing to load in advance")
        return
    if sys.argv[1:4] == ["-m", "cxg_proxy.viewer", "serve"]:
        stem = os.path.basename(sys.argv[-1]).partition(".")[0].partition("-")[0]
        behaviour, socket = stem if stem in BEHAVIOURS else "mirror", sys.argv[sys.argv.index("--socket") + 1]
    else:
        behaviour, socket = sys.argv[1:3]
    os.environ["ARGUMENTS"] = json.dumps(sys.argv[1:])
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif behaviour != "silent":
        threading.Thread(target=leave_with_the_leash, daemon=True).start()
    if behaviour == "silent":
        time.sleep(60)  # longer than any test waits
    say(Step(Phase.STARTING, version="0.0.0" if behaviour == "other" else __version__))
    say(Step(Phase.LOADING, done=0.25))
    if behaviour == "crashing":
        print("the file is made of cheese", file=sys.stderr)
        sys.exit(3)
    if behaviour == "gone":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "failing":
        say(Step(Phase.FAILED, problem=NoEmbedding("pbmc.h5ad")))
        sys.exit(1)
    if behaviour == "chatty":
        for n in range(30_000):
            print(f"line {n} " + "x" * 80, file=sys.stderr)
        os.write(1, b"not a step\n" + b"y" * 3_000_000 + b"\n")
    while behaviour == "slow" and not os.path.exists(f"{socket}.go"):
        time.sleep(0.01)
    with Server(socket, Mirror) as server:
        os.chmod(socket, 0o600)
        say(Step(Phase.READY, done=0.0 if behaviour == "preparing" else None, state="as it is"))
        threading.Thread(target=prepare, args=(behaviour, socket), daemon=True).start()
        server.serve_forever()


if __name__ == "__main__":
    main()
