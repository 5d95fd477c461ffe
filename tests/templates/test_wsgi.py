# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module that every server loads, rendered and then asked as a server asks it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

Render = Callable[..., str]

APP = """
import sys
from wsgiref.validate import validator

class Closing:
    closed = False
    def __init__(self, parts): self.parts = parts
    def __iter__(self): return iter(self.parts)
    def close(self): Closing.closed = True

def plain(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"one", b"three"]

def factory(greeting, times=1):
    def app(environ, start):
        start("201 Created", [("Content-Type", "text/plain")])
        return [greeting.encode() * times]
    return app

class Holder:
    app = staticmethod(plain)

def where(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    said = " ".join([environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["SCRIPT_NAME"]])
    return [said.encode()]

def streamed(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    for part in environ["test.parts"]:
        environ["test.seen"].append(part)
        yield part

def late(environ, start):
    # Begun when the first part is asked for, as a generator does.
    start("202 Accepted", [("Content-Type", "text/plain")])
    yield b"x"

def written(environ, start):
    write = start("200 OK", [("Content-Type", "text/plain")])
    write(b"12345")
    write(b"678")
    return [b"9"]

def closing(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return Closing([b"x"])

def broken(environ, start):
    raise LookupError("no such thing")

def broken_later(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    yield b"some"
    raise LookupError("no such thing")

def mended(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    try:
        raise LookupError("no such thing")
    except LookupError:
        start("500 Internal Server Error", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"sorry"]

checked = validator(plain)

def partly(environ, start):
    environ["wsgi.input"].read(1000)
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]

def switching(environ, start):
    start("101 Switching Protocols", [])
    return []

class Failing(Closing):
    def close(self):
        raise LookupError("no such thing")

def failing_at_the_end(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    return Failing([b"x"])
"""


class Body(io.BytesIO):
    """A request's body that knows how much of it was asked for at once; what it has not got, it waits for in vain."""

    def __init__(self, data: bytes = b"", ends: bool = True) -> None:
        super().__init__(data)
        self.asked: list[int] = []
        self.ends = ends

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked.append(size or 0)
        data = super().read(size)
        assert data or self.ends, "a server that reads here waits for ever"
        return data

    @property
    def left(self) -> int:
        return len(self.getbuffer()) - self.tell()


class Release:
    """A release's code and its rendered module, asked without a server."""

    def __init__(self, render: Render, code: Path) -> None:
        self.render, self.code = render, code
        (code / "shop/web").mkdir(parents=True)
        (code / "shop/__init__.py").touch()
        (code / "shop/web/__init__.py").touch()
        (code / "shop/web/main.py").write_text(APP)

    def load(self, wsgi: str) -> Any:
        text = self.render("app", "serve/flaskops_wsgi.py.j2", app={"name": "shop", "wsgi": wsgi})
        said: dict[str, Any] = {}
        exec(compile(text, "flaskops_wsgi.py", "exec"), said)
        return said["application"]

    def ask(self, wsgi: str, **environ: Any) -> Answer:
        return Answer(self.load(wsgi), environ)


class Answer:
    """What the app said to one request, and what it logged."""

    def __init__(self, application: Any, environ: dict[str, Any]) -> None:
        self.errors = io.StringIO()
        self.environ: dict[str, Any] = {"wsgi.errors": self.errors, **environ}
        setup_testing_defaults(self.environ)
        self.status = ""
        self.exc_info: Any = None
        self.parts: list[bytes] = []
        self.application = application

    def begin(self) -> Any:
        return self.application(self.environ, self._start)

    def whole(self) -> Answer:
        answer = self.begin()
        try:
            self.parts += list(answer)
        finally:
            answer.close()
        return self

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
        self.status, self.exc_info = status, exc_info
        return self.parts.append

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.errors.getvalue().splitlines()]


@pytest.fixture
def release(render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    monkeypatch.syspath_prepend(tmp_path)
    yield Release(render, tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shop", "flasked")]:
        del sys.modules[name]


@pytest.fixture
def without_werkzeug(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "werkzeug"]:
        monkeypatch.delitem(sys.modules, name)
    # What Python's import system takes for "not there".
    monkeypatch.setitem(sys.modules, "werkzeug", None)


# -- the app's callable ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wsgi", "body"),
    [
        ("shop.web.main:plain", b"onethree"),
        ("shop.web.main:Holder.app", b"onethree"),
        ("shop.web.main:factory('hi ')", b"hi "),
        ("shop.web.main:factory('a:b', times=2)", b"a:ba:b"),
        ('shop.web.main:factory(greeting="it\'s")', b"it's"),
    ],
)
def test_the_callable_is_the_one_that_the_app_names(release: Release, wsgi: str, body: bytes) -> None:
    assert release.ask(wsgi).whole().body == body


@pytest.mark.parametrize(
    ("wsgi", "error"),
    [
        ("missing:app", ModuleNotFoundError),
        ("shop.web.main:missing", AttributeError),
        ("shop.web.main:factory()", TypeError),
    ],
)
def test_a_callable_that_is_not_there_keeps_the_server_from_starting(
    release: Release, wsgi: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        release.load(wsgi)


def test_an_image_with_a_server_of_its_own_names_no_callable(render: Render) -> None:
    text = render("app", "serve/flaskops_wsgi.py.j2", app={"name": "shop", "wsgi": None})
    assert [line for line in text.splitlines() if not line.startswith("#")] == []


def test_a_flask_app(release: Release) -> None:
    (release.code / "flasked.py").write_text(
        "import flask\n"
        "def create_app(name):\n"
        "    app = flask.Flask(name)\n"
        "    app.add_url_rule('/hello', 'hello', lambda: flask.request.url + ' ' + flask.request.remote_addr)\n"
        "    app.add_url_rule('/fails', 'fails', lambda: 1 / 0)\n"
        "    return app\n"
    )
    seen = {"HTTP_X_FORWARDED_FOR": "192.0.2.9", "HTTP_X_FORWARDED_PROTO": "https", "HTTP_HOST": "shop.example.org"}
    hello = release.ask("flasked:create_app('flasked')", PATH_INFO="/hello", **seen).whole()
    assert hello.body == b"https://shop.example.org/hello 192.0.2.9"
    assert [(line["status"], line["bytes"]) for line in hello.lines] == [(200, len(hello.body))]
    fails = release.ask("flasked:create_app('flasked')", PATH_INFO="/fails", **seen).whole()
    assert fails.status.startswith("500")
    assert fails.errors.getvalue().count("ZeroDivisionError") == 0, "Flask writes a traceback to its own logger"
    assert [line["status"] for line in fails.lines] == [500]


# -- the access log ----------------------------------------------------------------------------------------------------


def test_a_line_of_the_access_log(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_RELEASE", "abc")
    asked = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": '/a "b"\n\xc3\xbc',
        "QUERY_STRING": "token=hunter2",
        "HTTP_HOST": "shop.example.org",
        "HTTP_USER_AGENT": "curl/8",
        "HTTP_X_REQUEST_ID": "r-1",
        "REMOTE_ADDR": "192.0.2.1",
    }
    answer = release.ask("shop.web.main:plain", **asked).whole()
    text = answer.errors.getvalue()
    assert "hunter2" not in text and "token" not in text
    assert (text.count("\n"), text[-1]) == (1, "\n"), "one line, whatever is asked for"
    (line,) = answer.lines
    assert 0 <= line.pop("duration") < 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "request_id": "r-1",
        "remote": "192.0.2.1",
        "method": "POST",
        "host": "shop.example.org",
        "path": asked["PATH_INFO"],
        "status": 200,
        "bytes": 8,
        "user_agent": "curl/8",
        "release": "abc",
    }


def test_what_a_request_does_not_say_is_null(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLASK_RELEASE", raising=False)
    (line,) = release.ask("shop.web.main:plain").whole().lines
    assert (line["request_id"], line["user_agent"], line["release"]) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "status", "count"),
    [("plain", 200, 8), ("factory('xyz')", 201, 3), ("late", 202, 1), ("written", 200, 9), ("mended", 500, 5)],
)
def test_status_and_bytes_are_those_that_were_sent(release: Release, name: str, status: int, count: int) -> None:
    answer = release.ask(f"shop.web.main:{name}").whole()
    assert [(line["status"], line["bytes"]) for line in answer.lines] == [(status, count)]
    assert (len(answer.body), int(answer.status.split()[0])) == (count, status)


def test_the_server_is_told_why_an_answer_is_another_one(release: Release) -> None:
    """It raises the exception itself where headers have gone out already (PEP 3333)."""
    assert release.ask("shop.web.main:mended").whole().exc_info[0] is LookupError
    assert release.ask("shop.web.main:plain").whole().exc_info is None


def test_an_answer_is_sent_as_it_is_made_and_logged_at_its_end(release: Release) -> None:
    seen: list[bytes] = []
    asked = release.ask("shop.web.main:streamed", **{"test.parts": [b"ab", b"c"], "test.seen": seen})
    answer = asked.begin()
    parts = iter(answer)
    assert (next(parts), seen, asked.lines) == (b"ab", [b"ab"], [])
    assert (next(parts), seen, asked.lines) == (b"c", [b"ab", b"c"], [])
    assert next(parts, None) is None and asked.lines == []
    answer.close()
    assert [line["bytes"] for line in asked.lines] == [3]


def test_a_visitor_who_leaves_is_logged_with_what_was_sent(release: Release) -> None:
    asked = release.ask("shop.web.main:streamed", **{"test.parts": [b"ab", b"c"], "test.seen": []})
    answer = asked.begin()
    next(iter(answer))
    answer.close()
    assert [line["bytes"] for line in asked.lines] == [2]


def test_what_the_app_has_open_is_closed(release: Release) -> None:
    asked = release.ask("shop.web.main:closing")
    closing = sys.modules["shop.web.main"].Closing
    answer = asked.begin()
    assert (list(answer), closing.closed) == ([b"x"], False)
    answer.close()
    assert closing.closed
    assert len(asked.lines) == 1


def test_an_exception_is_the_servers_to_answer(release: Release) -> None:
    with pytest.raises(LookupError, match="no such thing"):
        release.ask("shop.web.main:broken").whole()


def test_an_answer_that_breaks_off_is_logged(release: Release) -> None:
    asked = release.ask("shop.web.main:broken_later")
    with pytest.raises(LookupError, match="no such thing"):
        asked.whole()
    assert [(line["status"], line["bytes"]) for line in asked.lines] == [(200, 4)]


@pytest.mark.parametrize("name", ["plain", "streamed", "closing", "mended", "checked"])
@pytest.mark.filterwarnings("error")
def test_it_keeps_to_the_rules_of_wsgi_on_both_sides(release: Release, name: str) -> None:
    asked = Answer(
        validator(release.load(f"shop.web.main:{name}")), {"test.parts": [b"x"], "test.seen": [], "QUERY_STRING": ""}
    )
    asked.whole()
    assert len(asked.lines) == 1


# -- what is left of a request -----------------------------------------------------------------------------------------


def posted(body: Any, **more: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "POST", "wsgi.input": body, "CONTENT_LENGTH": "200000", **more}


@pytest.mark.parametrize("name", ["plain", "partly", "streamed", "closing", "mended"])
def test_the_rest_of_a_body_is_read_when_the_answer_is_closed(release: Release, name: str) -> None:
    body = Body(b"x" * 200000)
    asked = release.ask(f"shop.web.main:{name}", **posted(body, **{"test.parts": [b"x"], "test.seen": []}))
    answer = asked.begin()
    list(answer)
    assert body.left >= 199000, "the answer does not wait for it"
    answer.close()
    assert (body.left, len(asked.lines)) == (0, 1)
    assert max(body.asked) <= 65536, "in pieces"


def test_no_more_is_read_than_was_announced(release: Release) -> None:
    body = Body(b"x" * 200000 + b"the next request")
    release.ask("shop.web.main:plain", **posted(body)).whole()
    assert body.left == len(b"the next request")


def test_a_visitor_who_leaves_early_is_read_to_the_end_too(release: Release) -> None:
    body = Body(b"x" * 200000)
    answer = release.ask("shop.web.main:late", **posted(body)).begin()
    answer.close()
    assert body.left == 0


@pytest.mark.parametrize("name", ["broken", "broken_later", "failing_at_the_end"])
def test_an_app_that_fails_leaves_nothing_unread(release: Release, name: str) -> None:
    body = Body(b"x" * 200000)
    with pytest.raises(LookupError, match="no such thing"):
        release.ask(f"shop.web.main:{name}", **posted(body)).whole()
    assert body.left == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "0"},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "many"},
        {"CONTENT_LENGTH": "\u00b2"},
        {"CONTENT_LENGTH": "9" * 5000},
        {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"},
        {"HTTP_UPGRADE": "websocket"},
        {"HTTP_UPGRADE": "WebSocket", "REQUEST_METHOD": "GET", "CONTENT_LENGTH": ""},
    ],
)
@pytest.mark.parametrize("name", ["plain", "broken"])
def test_what_has_no_body_that_ends_is_not_read(release: Release, asked: dict[str, str], name: str) -> None:
    body = Body(ends=False)
    with contextlib.suppress(LookupError):
        release.ask(f"shop.web.main:{name}", **posted(body, **asked)).whole()
    assert body.asked == []


def test_a_connection_that_the_app_has_taken_over_is_not_read(release: Release) -> None:
    body = Body(b"frames")
    release.ask("shop.web.main:switching", **posted(body)).whole()
    assert body.asked == []


def test_an_offer_of_http_2_is_no_reason_to_leave_a_body(release: Release) -> None:
    body = Body(b"x" * 200000)
    release.ask("shop.web.main:plain", **posted(body, HTTP_UPGRADE="h2c")).whole()
    assert body.left == 0


class _Broken:
    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def read(self, _unused: int) -> bytes:
        raise self.error


@pytest.mark.parametrize("error", [OSError, ConnectionResetError, ValueError, RuntimeError])
def test_a_body_that_cannot_be_read_does_the_answer_no_harm(release: Release, error: type[Exception]) -> None:
    answer = release.ask("shop.web.main:plain", **posted(_Broken(error))).whole()
    assert (answer.body, len(answer.lines)) == (b"onethree", 1)


def test_a_body_that_is_cut_or_closed_or_missing_does_no_harm(release: Release) -> None:
    closed = Body()
    closed.close()
    for body in (Body(b"x" * 10), closed, None, object()):
        assert release.ask("shop.web.main:plain", **posted(body)).whole().body == b"onethree"


def test_a_body_that_drips_is_not_waited_for(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dripping:
        now = 0.0

        def read(self, _unused: int) -> bytes:
            Dripping.now += 3
            return b"x"

    monkeypatch.setattr("time.monotonic", lambda: Dripping.now)
    assert release.ask("shop.web.main:plain", **posted(Dripping())).whole().body == b"onethree"
    assert Dripping.now <= 25, "less than a stopping server waits"


# -- behind nginx ------------------------------------------------------------------------------------------------------

FORWARDED = {
    "HTTP_HOST": "shop.example.org",
    "HTTP_X_FORWARDED_FOR": "203.0.113.5, 192.0.2.9",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "evil.example.org",
    "HTTP_X_FORWARDED_PREFIX": "/evil",
    "REMOTE_ADDR": "",
}


def test_address_and_scheme_are_those_that_nginx_says_and_nothing_more_is_believed(release: Release) -> None:
    answer = release.ask("shop.web.main:where", **FORWARDED).whole()
    assert answer.body == b"192.0.2.9 https shop.example.org "
    assert answer.lines[0]["remote"] == "192.0.2.9"


@pytest.mark.usefixtures("without_werkzeug")
def test_an_app_without_werkzeug_is_served_too(release: Release) -> None:
    answer = release.ask("shop.web.main:where", **{**FORWARDED, "REMOTE_ADDR": "127.0.0.1"}).whole()
    assert answer.body == b"127.0.0.1 http shop.example.org "
    assert [(line["status"], line["remote"]) for line in answer.lines] == [(200, "127.0.0.1")]
