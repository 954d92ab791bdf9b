"""A server of the standard library, with a thread for each connection: ``python plain_server.py [port]``."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fairlead as ray
from fairlead import serve

my_handle = serve.get_handle("my_endpoint")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = ray.get(my_handle.remote("dummy input")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8001), Handler)
    print(f"listening on port {server.server_address[1]}", flush=True)
    server.serve_forever()
