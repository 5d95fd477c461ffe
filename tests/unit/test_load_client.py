"""The load client, against a server that fails on demand: a client that cannot see failures proves nothing."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "load" / "client.py"


def load_module() -> ModuleType:
    """Import the script, which lies in no package."""
    spec = importlib.util.spec_from_file_location("load_client", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


client = load_module()


class Server(ThreadingHTTPServer):
    """Serves until ``behave`` is set; then that decides what happens to a request."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behave: Callable[[Handler], None] | None = None
        self.version = "one"
        self.keep = True
        self.served = 0
        self.hosts: set[str] = set()
        self.lock = threading.Lock()
        self.open: list[socket.socket] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: broken connections are what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_unused: Any) -> None:
        """Keep quiet."""

    def setup(self) -> None:
        super().setup()
        self.server.open.append(self.connection)

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.served += 1
            self.server.hosts.add(self.headers["Host"])
        if self.server.behave is not None:
            self.server.behave(self)
            return
        if self.path.startswith("/slow"):
            time.sleep(float(self.path.partition("=")[2]))
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\none\r\n3\r\nend\r\n0\r\n\r\n")
        elif self.path == "/version":
            self.answer({"version": self.server.version})
        else:
            self.answer("hello")

    def do_POST(self) -> None:
        with self.server.lock:
            self.server.served += 1
        if self.server.behave is not None:
            self.server.behave(self)
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer({"sha256": hashlib.sha256(body).hexdigest(), "length": len(body)})

    def answer(self, content: object, status: int = 200, length: int | None = None) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if not self.server.keep:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self, *, reset: bool = False) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR) if not reset else self.connection.close()


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def target(server: Server, **more: Any) -> Any:
    return client.Target("127.0.0.1", server.server_address[1], **more)


def one(server: Server, kind: str = "short", path: str = "/", **more: Any) -> Any:
    """Send exactly one request and return the summary."""
    lane = client.Lane(kind, path, workers=1, pause=0, **more)
    return client.run(target(server), [lane], seconds=10, most=1, timeout=0.5)


def test_every_kind_and_exact_numbers(server: Server) -> None:
    lanes = [
        client.Lane("short", "/", expect="hello"),
        client.Lane("keep-alive", "/version", pause=0.01),
        client.Lane("post", "/echo"),
        client.Lane("large", "/echo", pause=0, size=3_000_000),
        client.Lane("slow-body", "/echo", seconds=0.3),
        client.Lane("slow", "/slow?seconds=0.3"),
        client.Lane("stream", "/stream", expect="end"),
    ]
    summary = client.run(target(server, name="shop.test"), lanes, seconds=10, rate=None, most=300)
    assert summary.samples == []
    assert (summary.requests, summary.failed, summary.cut) == (300, 0, 0)
    assert server.served == 300
    assert summary.statuses == {"200": 300}
    assert set(summary.kinds) == set(client.KINDS)
    assert sum(count.requests for count in summary.kinds.values()) == 300
    assert summary.versions["one"].count == summary.kinds["keep-alive"].requests
    assert server.hosts == {"shop.test"}


def test_short_requests_open_connections_and_keep_alive_ones_do_not(server: Server) -> None:
    client.run(target(server), [client.Lane("short", "/", workers=1)], seconds=10, most=5)
    assert len(server.open) == 5
    client.run(target(server), [client.Lane("keep-alive", "/", workers=1, pause=0)], seconds=10, most=5)
    assert len(server.open) == 6


def test_a_connection_that_the_server_gave_up_politely_is_no_cut(server: Server) -> None:
    server.keep = False
    summary = client.run(target(server), [client.Lane("keep-alive", "/", workers=1, pause=0)], seconds=10, most=5)
    assert (summary.requests, summary.failed, summary.cut) == (5, 0, 0)


def test_refused() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = client.Target("127.0.0.1", bound.getsockname()[1])
        summary = client.run(nobody, [client.Lane("short", "/")], seconds=10, rate=None, most=20)
    assert summary.failures == {"refused": 20}
    assert summary.failed == summary.requests == 20


def closed(handler: Handler) -> None:
    handler.hang_up()


def reset(handler: Handler) -> None:
    handler.hang_up(reset=True)


def hang(_handler: Handler) -> None:
    time.sleep(1.5)


def bad_gateway(handler: Handler) -> None:
    handler.answer("upstream is gone", status=502)


def not_found(handler: Handler) -> None:
    handler.answer("no such page", status=404)


def short(handler: Handler) -> None:
    handler.answer("half", length=8)
    handler.hang_up()


def short_chunks(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"3\r\none\r\n")
    handler.hang_up()


def half_a_status(handler: Handler) -> None:
    handler.wfile.write(b"HT")
    handler.hang_up()


def reset_in_the_body(handler: Handler) -> None:
    handler.answer("half", length=8)
    time.sleep(0.1)
    handler.hang_up(reset=True)


def not_json(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b'{"a"')


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        (closed, "closed"),
        (reset, "reset"),
        (hang, "timeout"),
        (bad_gateway, "status"),
        (not_found, "status"),
        (short, "short_body"),
        (short_chunks, "short_body"),
        (half_a_status, "short_body"),
        (reset_in_the_body, "reset"),
        (not_json, "wrong_body"),
    ],
)
@pytest.mark.parametrize("sent_as", ["short", "keep-alive"])
def test_failures_have_their_kind(server: Server, behave: Callable[[Handler], None], kind: str, sent_as: str) -> None:
    server.behave = behave
    summary = one(server, sent_as)
    assert (summary.requests, summary.failures, summary.cut) == (1, {kind: 1}, 0)
    assert summary.samples[0]["kind"] == kind
    assert summary.kinds[sent_as].failed == 1


def test_an_unexpected_text_is_a_wrong_body(server: Server) -> None:
    assert one(server, expect="goodbye").failures == {"wrong_body": 1}


@pytest.mark.parametrize("kind", ["post", "large", "slow-body"])
def test_a_body_that_arrived_damaged_is_a_wrong_body(server: Server, kind: str) -> None:
    def damage(handler: Handler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.answer({"sha256": hashlib.sha256(body[:-1]).hexdigest(), "length": len(body)})

    server.behave = damage
    assert one(server, kind, "/echo", seconds=0.1).failures == {"wrong_body": 1}


def test_a_body_refused_early_is_known_by_its_status(server: Server) -> None:
    def refuse(handler: Handler) -> None:
        handler.answer("too large", status=413)
        time.sleep(0.3)
        handler.hang_up()

    server.behave = refuse
    summary = one(server, "large", "/echo", size=20_000_000)
    assert (summary.failures, summary.statuses) == ({"status": 1}, {"413": 1})


def test_idle_connections_that_are_cut_are_counted_apart(server: Server) -> None:
    load = client.Load(target(server), [client.Lane("keep-alive", "/", workers=4, pause=0.2)], rate=None).start()
    assert load.answered.wait(5)
    time.sleep(0.5)
    before = len(server.open)
    for connection in list(server.open):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    time.sleep(0.6)
    summary = load.finish()
    assert before == 4
    assert (summary.failed, summary.cut) == (0, 4)
    assert summary.requests == server.served


def test_a_request_that_was_read_and_then_dropped_is_a_failure_on_a_reused_connection_too(server: Server) -> None:
    lane = client.Lane("keep-alive", "/", workers=1, pause=0)
    assert one(server, "keep-alive").failed == 0
    load = client.Load(target(server), [lane], most=2)

    def later(handler: Handler) -> None:
        if handler.server.served > 2:
            time.sleep(client.CUT_WITHIN + 0.2)
            handler.hang_up()
        else:
            handler.answer("hello")

    server.behave = later
    summary = load.start().wait()
    assert (summary.requests, summary.failures, summary.cut) == (2, {"closed": 1}, 0)


def test_a_restart_is_seen_and_only_while_it_lasts() -> None:
    first = Server()
    port = first.server_address[1]
    lanes = [client.Lane("short", "/version"), client.Lane("keep-alive", "/version", pause=0.02)]
    with serving(first) as server:
        load = client.Load(client.Target("127.0.0.1", port), lanes, rate=200).start()
        assert load.answered.wait(5)
        time.sleep(0.3)
        server.behave = lambda handler: handler.hang_up(reset=True)
    time.sleep(0.3)
    second = Server(port)
    second.version = "two"
    with serving(second):
        time.sleep(0.5)
        summary = load.finish()
    assert summary.failures["refused"] > 10
    assert summary.failed < summary.requests
    assert list(summary.versions) == ["one", "two"]
    assert summary.versions["one"].last < summary.versions["two"].first


def test_the_rate_and_the_time_are_kept(server: Server) -> None:
    summary = client.run(target(server), [client.Lane("short", "/", workers=8)], seconds=1.0, rate=40)
    # A busy machine may keep it from some; none may be too many.
    assert 15 <= summary.requests <= 41
    assert 0.9 <= summary.seconds < 2


def test_waiting_that_was_asked_for_is_no_wait(server: Server) -> None:
    assert one(server, "slow", "/slow?seconds=0.4").longest_wait < 0.3
    assert one(server, "short", "/slow?seconds=0.4").longest_wait >= 0.4


def test_https_and_its_server_name(server: Server, tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    key = tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=shop.test"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    names: set[str | None] = set()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.add(name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    lanes = [client.Lane("short", "/"), client.Lane("keep-alive", "/", pause=0.05), client.Lane("post", "/echo")]
    summary = client.run(target(server, tls=True, name="shop.test"), lanes, seconds=10, most=40)
    assert summary.samples == []
    assert (summary.requests, summary.failed, summary.cut) == (40, 0, 0)
    assert names == {"shop.test"}
    assert one(server).failed == 1


@pytest.mark.parametrize("how", ["file", "signal", "time"])
def test_the_command(server: Server, tmp_path: Path, how: str) -> None:
    stop, ready, out = (tmp_path / name for name in ("stop", "ready", "out.json"))
    command = [sys.executable, str(SCRIPT), "--host", "127.0.0.1", "--port", str(server.server_address[1])]
    command += ["--short", "/", "--keep-alive", "/version", "--post", "/echo", "--expect", "/", "hello"]
    command += ["--stop-file", str(stop), "--ready-file", str(ready), "--out", str(out), "--strict"]
    command += ["--seconds", "1" if how == "time" else "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert int(ready.read_text()) == process.pid
        if how == "file":
            stop.touch()
        elif how == "signal":
            process.terminate()
        output, _unused = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "0 failed (none)" in output
    summary = json.loads(out.read_text())
    assert summary["failed"] == 0
    assert summary["requests"] == server.served > 0
    assert summary["versions"]["one"]["count"] > 0


def test_the_command_is_strict_when_told_so(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.behave = bad_gateway
    arguments = ["--host", "127.0.0.1", "--port", str(server.server_address[1]), "--short", "/", "--most", "3"]
    handlers = [client.signal.getsignal(number) for number in (client.signal.SIGTERM, client.signal.SIGINT)]
    try:
        assert client.main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["failures"] == {"status": 3}
        assert client.main([*arguments, "--strict"]) == 1
        with pytest.raises(SystemExit):
            client.main(["--host", "127.0.0.1", "--port", "1"])
    finally:
        for number, handler in zip((client.signal.SIGTERM, client.signal.SIGINT), handlers, strict=True):
            client.signal.signal(number, handler)
