# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asking for health over a unix socket: what each way of answering, and of not answering, is called."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import health
from ansible_collections.flaskops.server.plugins.module_utils.host.health import (
    Answer,
    NoAnswerError,
    RedirectError,
    ask,
)

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
            connection, _unused = listener.accept()
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
        (None, "it accepted the request but did not answer in time"),
    ],
)
def test_no_answer(sent: bytes | None, words: str) -> None:
    with server(sent) as (path, _unused), pytest.raises(NoAnswerError, match=words):
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
    ("target", "more"),
    [("/\u00e9", {}), ("/a b", {}), ("/", {"X": "a\r\nY: b"}), ("/", {"X": "\u20ac"})],
)
def test_a_question_that_http_does_not_allow(target: str, more: dict[str, Any]) -> None:
    with (
        app({}) as (path, requests),
        pytest.raises(NoAnswerError, match=r"it cannot be asked: health\.path or a header"),
    ):
        ask(path, target, more, 1)
    assert requests == []


# -- answers that take their time --------------------------------------------------------------------------------------


def dripping(head: bytes, pause: float = 0.1) -> Iterator[bytes]:
    yield head
    while True:
        time.sleep(pause)
        yield b"x"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 2"]
)
def test_an_answer_that_drips_ends_with_the_time(head: bytes) -> None:
    began = time.monotonic()
    with (
        app({"/": lambda: dripping(head)}) as (path, _unused),
        pytest.raises(NoAnswerError, match=r"did not (finish|answer)"),
    ):
        ask(path, "/", {}, 0.5)
    assert time.monotonic() - began < 2


def test_there_is_one_time_for_all_redirects() -> None:
    def slowly(answer: bytes) -> Callable[[], Iterator[bytes]]:
        def slow() -> Iterator[bytes]:
            time.sleep(0.4)
            yield answer

        return slow

    began = time.monotonic()
    with (
        app({f"/{n}": slowly(to(f"/{n + 1}")) for n in range(5)}) as (path, _unused),
        pytest.raises(
            NoAnswerError,
            match=r"it answered GET /0 with 302 to /1, and then it accepted the request but did not answer in time",
        ),
    ):
        ask(path, "/0", {}, 0.7)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("kind", [b"Transfer-Encoding: chunked", b"Content-Type: text/event-stream"])
@pytest.mark.parametrize("timeout", [0.4, 30])
def test_a_stream_is_not_waited_for(kind: bytes, timeout: float) -> None:
    def events() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n"
        while True:
            yield b"4\r\none\n\r\n"
            time.sleep(0.3)

    began = time.monotonic()
    with app({"/": events}) as (path, _unused):
        answer = ask(path, "/", {}, timeout)
    assert answer.status == 200 and answer.body.count("one") >= 1
    assert time.monotonic() - began < 3


# -- redirects ---------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OOPS = b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"
SHOP = {"Host": "shop.example", "X-Forwarded-Proto": "https", "Cookie": "mine=1"}


def to(place: str, status: int = 302, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {place}\r\n{more}Content-Length: 3\r\n\r\nhop".encode()


@contextlib.contextmanager
def app(answers: dict[str, bytes | Callable[[], Iterator[bytes]]]) -> Iterator[tuple[Path, list[list[str]]]]:
    """A server with an answer for each path, 404 for others; it keeps the lines of each request's head."""
    asked: list[list[str]] = []
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        path = Path(directory, "http.sock")
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _unused = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        head = connection.recv(65536).decode().splitlines()
                        if not head:
                            return
                        asked.append(head)
                        answer = answers.get(head[0].split()[1], b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                        for piece in [answer] if isinstance(answer, bytes) else answer():
                            connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path, asked
        finally:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as last:
                last.connect(str(path))
            thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("place", "asked"),
    [
        ("/login", "/login"),
        ("login?next=%2Fa&b=c#top", "/login?next=%2Fa&b=c"),
        ("../login", "/login"),
        ("?page=2", "/a?page=2"),
        ("http://shop.example/login", "/login"),
        ("HTTPS://SHOP.example:8443/login", "/login"),
        ("//shop.example/login", "/login"),
        ("https://www.shop.example/login", "/login"),
        ("https://fr.shop.test/login", "/login"),
        ("https://shop.example", "/"),
        ("/größe x", "/gr%C3%B6%C3%9Fe%20x"),
        ("/\\evil.example/", "/%5Cevil.example/"),
    ],
)
def test_a_redirect_to_the_app_itself_is_followed(place: str, asked: str, status: int) -> None:
    with app({"/a": to(place, status), asked: OOPS}) as (path, requests):
        answer = ask(path, "/a", SHOP, 5, None, ["shop.example", "www.Shop.example", "*.shop.test"])
    assert answer == Answer(500, "oops")
    assert [head[0] for head in requests] == ["GET /a HTTP/1.1", f"GET {asked} HTTP/1.1"]
    assert "X-Forwarded-Proto: https" in requests[1] and "Cookie: mine=1" in requests[1]
    assert sum(line.lower().startswith("host:") for line in requests[1]) == 1


@pytest.mark.parametrize(
    "place",
    [
        "https://login.example/",
        "//login.example/",
        "https://shop.example@login.example/",
        "https://shop.example.login.example/",
        "https://notshop.test/",
        "ftp://shop.example/",
        "mailto:shop@shop.example",
        "http://[",
        "",
    ],
)
def test_a_redirect_to_somebody_else_is_the_answer(place: str) -> None:
    with app({"/": to(place)}) as (path, requests):
        answer = ask(path, "/", SHOP, 5, None, ["shop.example", "*.shop.test"])
    assert (answer, answer.via, len(requests)) == (Answer(302, "hop"), (), 1)


def test_a_redirect_without_a_place_is_the_answer() -> None:
    with app({"/": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"}) as (path, _unused):
        assert ask(path, "/", SHOP, 5) == Answer(302, "")


@pytest.mark.parametrize(
    ("wanted", "status"), [(302, 302), ([200, 302], 302), (200, 200), ([200, 301], 200), (None, 200)]
)
def test_a_redirect_that_is_wanted_is_the_answer(wanted: Any, status: int) -> None:
    with app({"/": to("/home"), "/home": OK}) as (path, _unused):
        assert ask(path, "/", SHOP, 5, wanted).status == status


def test_another_host_of_the_app_is_asked_by_its_name() -> None:
    """Or an app that wants its canonical name would send the question in a circle."""
    with app({"/": to("https://www.shop.example/home"), "/home": OK}) as (path, requests):
        ask(path, "/", SHOP, 5, None, ["shop.example", "www.shop.example"])
    assert [[line for line in head if line.startswith("Host:")] for head in requests] == [
        ["Host: shop.example"],
        ["Host: www.shop.example"],
    ]


def test_an_app_that_wants_https_is_asked_as_if_by_https() -> None:
    def https_only() -> Iterator[bytes]:
        yield OK if "X-Forwarded-Proto: https" in requests[-1] else to("https://shop.example/")

    with app({"/": https_only}) as (path, requests):
        answer = ask(path, "/", {"Host": "shop.example", "X-Forwarded-Proto": "http"}, 5)
    assert (answer.status, answer.via) == (200, ((302, "https://shop.example/"),))


def test_the_same_page_on_another_port_is_no_circle() -> None:
    """nginx_https_port can be one that only visitors see."""
    with app({"/": to("https://shop.example:8443/")}) as (path, _unused):
        assert ask(path, "/", SHOP, 5) == Answer(302, "hop")
    with app({"/": to("https://shop.example:8443/login"), "/login": to("/", 500)}) as (path, _unused):
        assert ask(path, "/", SHOP, 5).status == 500


def test_cookies_that_are_set_on_the_way_are_sent_on() -> None:
    over = "Set-Cookie: old=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/\r\n"
    set_two = "Set-Cookie: session=a=b; HttpOnly; Path=/; Secure\r\nSet-Cookie: old=1; Max-Age=60\r\n"
    with app({"/": to("/b", 302, set_two), "/b": to("/c", 302, over), "/c": OK}) as (path, requests):
        assert ask(path, "/", SHOP, 5).status == 200
    sent = [[line for line in head if line.startswith("Cookie:")] for head in requests]
    assert sent == [["Cookie: mine=1"], ["Cookie: mine=1; session=a=b; old=1"], ["Cookie: mine=1; session=a=b"]]


def test_a_page_that_sets_a_cookie_and_sends_to_itself_is_no_circle() -> None:
    def once() -> Iterator[bytes]:
        yield OK if any("lang=en" in line for line in requests[-1]) else to("/", 302, "Set-Cookie: lang=en\r\n")

    with app({"/": once}) as (path, requests):
        assert ask(path, "/", SHOP, 5).status == 200


def test_five_redirects_and_no_more() -> None:
    steps: dict[str, Any] = {f"/{n}": to(f"/{n + 1}") for n in range(6)}
    with app(steps) as (path, requests):
        assert ask(path, "/1", SHOP, 5).status == 404
        assert len(requests) == 6
        with pytest.raises(
            RedirectError, match="it redirects GET /0 more than 5 times: 302 to /1, which answered 302 to /2"
        ):
            ask(path, "/0", SHOP, 5)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"/": to("/")}, "it redirects GET / in a circle: 302 to /$"),
        (
            {"/": to("/login"), "/login": to("/", 301)},
            "it redirects GET / in a circle: 302 to /login, which answered 301 to /$",
        ),
    ],
)
def test_a_circle_is_named(answers: dict[str, Any], words: str) -> None:
    with app(answers) as (path, _unused), pytest.raises(RedirectError, match=words):
        ask(path, "/", SHOP, 5)


def test_words_for_the_way_to_an_answer() -> None:
    assert Answer(500, "").said("/") == "GET / with 500"
    long = "x" * 5000
    with app({"/": to(f"/login?token=hunter2&{long}"), f"/login?token=hunter2&{long}": to(f"/{long}")}) as (
        path,
        _unused,
    ):
        said = ask(path, "/", SHOP, 5).said("/")
    assert said.startswith("GET / with 302 to /login, which answered 302 to /xxx") and said.endswith(
        ", which answered 404"
    )
    assert "hunter2" not in said and len(said) < 400
    with app({"/": to("/gone")}) as (path, _unused):
        assert ask(path, "/", SHOP, 5).said("/") == "GET / with 302 to /gone, which answered 404"
    with (
        app({"/": to("/broken"), "/broken": b""}) as (path, _unused),
        pytest.raises(
            NoAnswerError,
            match=r"it answered GET / with 302 to /broken, and then it closed the connection without an answer",
        ),
    ):
        ask(path, "/", SHOP, 5)


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


def test_a_header_of_the_app_takes_the_place_of_ours_in_whatever_letters() -> None:
    asked = health.headers({**APP, "health": {"headers": {"host": "own.example", "user-agent": "x"}}})
    assert {name.lower() for name in asked} == {"host", "user-agent", "x-forwarded-proto", "x-forwarded-for"}
    assert len(asked) == 4 and asked["host"] == "own.example"


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
