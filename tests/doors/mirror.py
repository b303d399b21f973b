"""A program behind plain jupyter-server-proxy that replies with the address and the headers it was sent."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Mirror(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        """Say what was asked."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"target": self.path, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Mirror).serve_forever()
