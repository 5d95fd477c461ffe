# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The health check: HTTP over a release's own unix socket."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

#: The user agent: it tells the health check from visitors in the app's access log.
AGENT = "flaskops-health"

#: How much of an answer's body is kept for a message, in bytes.
BODY_KEPT = 2000

#: Statuses that send a visitor elsewhere, and how many of them in a row are followed.
REDIRECTS = (301, 302, 303, 307, 308)
MOST_REDIRECTS = 5

#: Seconds for the body of an answer that does not say how long it is: a stream of events has no end to wait for.
STREAM_SECONDS = 1.0

#: How much of a redirect's address a message shows, in characters.
_SHOWN = 200
#: What an address may hold as it is, beside letters and digits (RFC 3986); all else is percent-encoded.
_IN_ADDRESS = "%/:?#[]@!$&'()*+,;=-._~"


class NoAnswerError(Exception):
    """Nothing listens, or what listens did not answer in time; the message says which."""


class RedirectError(NoAnswerError):
    """One redirect leads to the next, without an end."""


@dataclass(frozen=True)
class Answer:
    """A status and the beginning of the body.

    :param via: the redirects that were followed: the status of each, and where it led.
    """

    status: int
    body: str
    via: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    def said(self, target: str) -> str:
        """Say in words what was asked and what was answered.

        >>> Answer(500, "", ((302, "/login"),)).said("/")
        'GET / with 302 to /login, which answered 500'

        :param target: the path that was asked first.
        """
        return f"GET {target} with {_way(self.via, str(self.status))}"


@dataclass
class _Question:
    """What is asked next.

    :param host: the host that is asked for, in small letters and without a port.
    :param target: path and query.
    :param headers: all of them, cookies apart.
    :param cookies: those that were set on the way.
    """

    host: str
    target: str
    headers: dict[str, str]
    cookies: dict[str, str] = field(default_factory=dict)

    def to_send(self) -> dict[str, str]:
        given = _get(self.headers, "Cookie")
        cookies = [*([given] if given else []), *(f"{name}={value}" for name, value in self.cookies.items())]
        return _with(self.headers, "Cookie", "; ".join(cookies)) if cookies else self.headers

    def follow(self, response: http.client.HTTPResponse, domains: Collection[str]) -> str | None:
        """Turn it into the question that a redirect leads to.

        :returns: where it leads, as a message shows it; None where that is no host of the app, and nothing changed.
        """
        # A header arrives as the bytes that were sent; some servers do not encode what they should.
        address = quote((response.headers.get("Location") or "").encode("latin-1", "replace"), safe=_IN_ADDRESS)
        try:
            to = urlsplit(urljoin(f"http://{self.host}{self.target}", address))
            host = (to.hostname or "").rstrip(".")
            is_elsewhere = to.port not in (None, 80, 443)
        except ValueError:
            return None
        if not address or to.scheme not in ("http", "https") or not (host == self.host or _is_own(host, domains)):
            return None
        target = (to.path or "/") + (f"?{to.query}" if to.query else "")
        if is_elsewhere and (host, target) == (self.host, self.target):
            # The same page on a port of its own, which nginx may have: here it would be asked in a circle.
            return None
        shown = to.path or "/"
        if host != self.host:
            self.headers = _with(self.headers, "Host", host)
            shown = f"{host}{shown}"
        if to.scheme == "https" and _get(self.headers, "X-Forwarded-Proto") == "http":
            # With this a visitor comes back. Without it an app that wants HTTPS would send the question in a circle.
            self.headers = _with(self.headers, "X-Forwarded-Proto", "https")
            shown = f"https://{host}{to.path or '/'}"
        self.host, self.target = host, target
        for line in response.headers.get_all("Set-Cookie") or ():
            name, value, is_over = _cookie(line)
            self.cookies.pop(name, None)
            if not is_over:
                self.cookies[name] = value
        return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."

    @property
    def state(self) -> tuple[Any, ...]:
        """What an answer can depend on: asked the same again, an app says the same again."""
        return self.host, self.target, _get(self.headers, "X-Forwarded-Proto"), tuple(sorted(self.cookies.items()))


class _Socket(socket.socket):
    """A unix socket with one deadline for everything: a timeout would begin anew with each part that arrives.

    :param deadline: on the monotonic clock.
    """

    def __init__(self, deadline: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.deadline = deadline

    def wait(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def recv_into(self, *arguments: Any, **more: Any) -> int:
        self.wait()
        return super().recv_into(*arguments, **more)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, deadline: float) -> None:
        super().__init__("localhost")
        self._path = path
        self.stream = _Socket(deadline)

    def connect(self) -> None:
        self.sock = self.stream
        self.stream.wait()
        self.sock.connect(str(self._path))

    def body(self, response: http.client.HTTPResponse) -> bytes:
        """Return the beginning of an answer's body.

        :raises TimeoutError: where there is more to come than came in time.
        """
        length = response.length
        if length is None:
            self.stream.deadline = min(self.stream.deadline, time.monotonic() + STREAM_SECONDS)
        body, enough = b"", BODY_KEPT if length is None else min(BODY_KEPT, length)
        try:
            while len(body) < enough and (piece := response.read1(enough - len(body))):
                body += piece
        except TimeoutError:
            # What a stream has sent by then is all that is wanted of it.
            if length is not None:
                raise
        if length is not None and len(body) < enough:
            raise http.client.IncompleteRead(body)
        return body


def ask(
    path: Path,
    target: str,
    headers: Mapping[str, Any],
    timeout: float,
    wanted: int | Collection[int] | None = None,
    domains: Collection[str] = (),
) -> Answer:
    """Send a GET request over a unix socket, follow redirects on the app's own hosts, and return the last answer.

    Its own hosts are the one of the header Host, and ``domains``. A redirect to another host is an answer itself, and so is
    one whose status is wanted. Cookies that are set on the way are sent on, whatever path they are for: many a login needs
    the one of the page before it.

    :param timeout: seconds, for all of it.
    :param wanted: the status that means healthy, or some of them; None for any below 500.
    :param domains: host names, also such as ``*.example.org``.
    :raises NoAnswerError: where there is no complete answer.
    :raises RedirectError: where redirects have no end.
    """
    deadline = time.monotonic() + timeout
    given = {name: str(value) for name, value in headers.items()}
    question = _Question(_host_of(_get(given, "Host") or "localhost"), target, given)
    via: list[tuple[int, str]] = []
    asked = {question.state}
    while True:
        try:
            with _asked(path, question, deadline) as (connection, response):
                is_wanted = wanted is not None and is_healthy(response.status, wanted)
                led = question.follow(response, domains) if response.status in REDIRECTS and not is_wanted else None
                if led is None:
                    body = connection.body(response).decode("utf-8", "replace")
                    return Answer(response.status, body, tuple(via))
        except NoAnswerError as error:
            if not via:
                raise
            raise NoAnswerError(f"it answered GET {target} with {_way(via)}, and then {error}") from error
        via.append((response.status, led))
        if question.state in asked or len(via) > MOST_REDIRECTS:
            how = "in a circle" if question.state in asked else f"more than {MOST_REDIRECTS} times"
            raise RedirectError(f"it redirects GET {target} {how}: {_way(via)}")
        asked.add(question.state)


@contextlib.contextmanager
def _asked(path: Path, question: _Question, deadline: float) -> Iterator[tuple[_Connection, http.client.HTTPResponse]]:
    """Send one request; within the block its answer is read."""
    connection = _Connection(path, deadline)
    late = "it accepted the request but did not answer in time"
    try:
        try:
            sent = question.to_send()
            sent = sent if _get(sent, "Connection") else _with(sent, "Connection", "close")
            connection.request("GET", question.target, headers=sent)
        except (ValueError, http.client.InvalidURL) as error:
            # The inventory's check refuses them; a release of an older version can have them still.
            raise NoAnswerError(
                "it cannot be asked: health.path or a header in health.headers is not valid HTTP"
            ) from error
        response = connection.getresponse()
        late = f"it began to answer with {response.status} but did not finish in time"
        yield connection, response
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoAnswerError("nothing listens on its socket") from error
    except TimeoutError as error:
        raise NoAnswerError(late) from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"it closed the connection without an answer ({type(error).__name__})") from error
    finally:
        connection.close()
        connection.stream.close()


def headers(app: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers of an app's health question: those that nginx would send, and the app's own."""
    domain = app["domains"][0].replace("*.", "") if app["domains"] else "localhost"
    sent: dict[str, Any] = {
        "Host": domain,
        "User-Agent": AGENT,
        "X-Forwarded-Proto": "http" if app["tls"]["mode"] == "none" else "https",
        "X-Forwarded-For": "127.0.0.1",
    }
    for name, value in app["health"]["headers"].items():
        # Two of one name, in whatever letters, are no request.
        sent = _with(sent, name, value)
    return sent


def is_healthy(status: int, wanted: int | Collection[int] | None) -> bool:
    """Say whether a status is one that was asked for; without any, whether it is below 500."""
    if wanted is None:
        return status < 500
    return status == wanted if isinstance(wanted, int) else status in wanted


def expected(wanted: int | Collection[int] | None) -> str:
    """Return in words what :func:`is_healthy` takes."""
    if wanted is None:
        return "a status below 500"
    return str(wanted) if isinstance(wanted, int) else " or ".join(str(status) for status in wanted)


def _way(via: Iterable[tuple[int, str]], *last: str) -> str:
    return ", which answered ".join([*(f"{status} to {led}" for status, led in via), *last])


def _get(sent: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in sent.items() if key.lower() == name.lower()), None)


def _with(sent: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return headers with this one in the place of any of that name."""
    return {**{key: old for key, old in sent.items() if key.lower() != name.lower()}, name: value}


def _host_of(header: str) -> str:
    """Return the host of a header Host, in small letters and without the port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return header.lower()


def _is_own(host: str, domains: Collection[str]) -> bool:
    return any(
        host.endswith(domain[1:].lower()) if domain.startswith("*.") else host == domain.lower() for domain in domains
    )


def _cookie(line: str) -> tuple[str, str, bool]:
    """Return the name and the value of a cookie, and whether it is taken away (RFC 6265)."""
    pair, *attributes = line.split(";")
    name, _unused, value = pair.partition("=")
    of_cookie = {
        key.strip().lower(): text.strip() for key, _unused, text in (part.partition("=") for part in attributes)
    }
    is_over = False
    with contextlib.suppress(ValueError, TypeError):
        if "max-age" in of_cookie:
            is_over = int(of_cookie["max-age"]) <= 0
        elif "expires" in of_cookie:
            is_over = parsedate_to_datetime(of_cookie["expires"]).timestamp() <= time.time()
    return name.strip(), value.strip(), is_over
