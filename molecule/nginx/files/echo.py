"""A stand-in for an application, on a unix socket: answers every request with what it was told, as JSON.

/stream      five lines, one each 0.3 s
/own-header  sets X-Frame-Options itself
/upgrade     agrees to a websocket and sends back the first bytes it gets
"""

import json
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.stream()
        elif self.path == "/upgrade":
            self.upgrade()
        else:
            self.echo()

    def do_POST(self) -> None:
        self.do_GET()

    def echo(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        received = len(self.rfile.read(length))
        seen = {"path": self.path, "method": self.command, "received": received, "headers": self.headers.items()}
        body = json.dumps(seen).encode() + b" " * (2000 if self.path == "/large" else 0)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/own-header":
            self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Accel-Buffering", "no")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(5):
            self.wfile.write(b"data: %d\n\n" % number)
            time.sleep(0.3)

    def upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", self.headers.get("Upgrade", "none"))
        self.send_header("Connection", self.headers.get("Connection", "none"))
        self.end_headers()
        self.wfile.write(self.connection.recv(100))
        self.close_connection = True


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


path = Path(sys.argv[1])
path.unlink(missing_ok=True)
with Server(str(path), Echo) as server:
    path.chmod(0o666)
    server.serve_forever()
