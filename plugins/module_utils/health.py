# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The health proof's questions: HTTP over a release's own unix socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Who asks: in the app's access log, what tells the proof's questions from visitors.
AGENT = "flaskops-health"

#: How much of an answer's body is kept for a message, in bytes.
BODY_KEPT = 2000


class NoAnswerError(Exception):
    """Nothing listens, or what listens did not answer in time; the message says which."""


@dataclass(frozen=True)
class Answer:
    """A status and the beginning of the body."""

    status: int
    body: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, target: str, headers: Mapping[str, Any], timeout: float) -> Answer:
    """Send one GET request over a unix socket.

    :param timeout: seconds.
    :raises NoAnswerError: where there is no complete answer.
    """
    connection = _UnixConnection(path, timeout)
    try:
        connection.request(
            "GET", target, headers={"Connection": "close", **{key: str(value) for key, value in headers.items()}}
        )
        response = connection.getresponse()
        body = response.read(BODY_KEPT)
        if response.length and len(body) < BODY_KEPT:
            raise http.client.IncompleteRead(body)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoAnswerError("nothing listens on its socket") from error
    except TimeoutError as error:
        raise NoAnswerError("it took the request and did not answer") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"it closed the connection without an answer ({type(error).__name__})") from error
    finally:
        connection.close()
    return Answer(response.status, body.decode("utf-8", "replace"))


def headers(app: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers of an app's health question: those that nginx would send, and the app's own."""
    domain = app["domains"][0].replace("*.", "") if app["domains"] else "localhost"
    return {
        "Host": domain,
        "User-Agent": AGENT,
        "X-Forwarded-Proto": "http" if app["tls"]["mode"] == "none" else "https",
        "X-Forwarded-For": "127.0.0.1",
        **app["health"]["headers"],
    }


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
