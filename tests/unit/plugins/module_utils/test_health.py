# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asking for health over a unix socket: what each way of answering, and of not answering, is called."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils import health
from ansible_collections.flaskops.server.plugins.module_utils.health import Answer, NoAnswerError, ask

APP: dict[str, Any] = {
    "domains": ["shop.example", "b.example"],
    "tls": {"mode": "self_signed"},
    "health": {"headers": {"X-Probe": 1}},
}


@contextlib.contextmanager
def server(answer: bytes | None) -> Iterator[tuple[Path, list[bytes]]]:
    """A server that takes one request and gives a fixed answer; without any it keeps the connection open, silent."""
    asked: list[bytes] = []
    done = threading.Event()
    # pytest's own directories can be longer than a socket's address may be.
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory, "http.sock")
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                if answer is None:
                    done.wait(5)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path, asked
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Answer(200, "ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, "")),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nd\xc3\xa9\xff!", Answer(500, "dé\ufffd!")),
        (b"HTTP/1.0 503 Wait\r\n\r\nsoon", Answer(503, "soon")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Answer(200, "ok")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000, Answer(200, "x" * health.BODY_KEPT)),
    ],
)
def test_answers(sent: bytes, answer: Answer) -> None:
    with server(sent) as (path, asked):
        assert ask(path, "/healthz?a=1", {"Host": "shop.example", "X-Probe": 1}, 5) == answer
    head = asked[0].decode().splitlines()
    assert head[0] == "GET /healthz?a=1 HTTP/1.1"
    assert {"Host: shop.example", "X-Probe: 1", "Connection: close"} <= set(head)
    assert sum(line.startswith("Host:") for line in head) == 1


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", r"it closed the connection without an answer \(RemoteDisconnected\)"),
        (b"hello\r\n\r\n", r"it closed the connection without an answer \(BadStatusLine\)"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            r"it closed the connection without an answer \(IncompleteRead\)",
        ),
        (None, "it took the request and did not answer"),
    ],
)
def test_no_answer(sent: bytes | None, words: str) -> None:
    with server(sent) as (path, _), pytest.raises(NoAnswerError, match=words):
        ask(path, "/", {}, 0.1)


def test_nothing_listens(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "http.sock")
        with pytest.raises(NoAnswerError, match="nothing listens on its socket"):
            ask(path, "/", {}, 1)
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with pytest.raises(NoAnswerError, match="nothing listens on its socket"):
            ask(path, "/", {}, 1)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, {"Host": "shop.example", "X-Forwarded-Proto": "https", "X-Probe": 1}),
        (
            {"domains": ["*.shop.example"], "tls": {"mode": "none"}},
            {"Host": "shop.example", "X-Forwarded-Proto": "http"},
        ),
        ({"domains": []}, {"Host": "localhost"}),
        ({"health": {"headers": {"Host": "own.example"}}}, {"Host": "own.example"}),
    ],
)
def test_the_question_is_the_one_that_nginx_would_pass_on(change: dict[str, Any], wanted: dict[str, Any]) -> None:
    asked = health.headers({**APP, **change})
    assert {key: asked[key] for key in wanted} == wanted
    assert asked["User-Agent"] == health.AGENT


@pytest.mark.parametrize(
    ("wanted", "healthy", "ill", "words"),
    [
        (None, [200, 302, 404, 499], [500, 503], "a status below 500"),
        (200, [200], [204, 404], "200"),
        ([200, 204], [200, 204], [302], "200 or 204"),
    ],
)
def test_healthy(wanted: Any, healthy: list[int], ill: list[int], words: str) -> None:
    assert all(health.is_healthy(status, wanted) for status in healthy)
    assert not any(health.is_healthy(status, wanted) for status in ill)
    assert health.expected(wanted) == words
