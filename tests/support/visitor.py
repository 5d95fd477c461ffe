# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A visitor of a scenario's hosts: requests from the controller to nginx, by host name, over HTTPS and plain HTTP.

answer = visitor.get(visitor.address(host), "shop.test", "/whoami")
assert answer.status == 200, answer
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ansible_collections.flaskops.server.tests.support import deploying

#: Seconds that a request may take.
TIMEOUT = 30


@dataclass(frozen=True)
class Answer:
    """What came back.

    :param status: of HTTP.
    :param headers: by name in lower case; of a repeated one the last.
    :param body: as it came.
    :param sent_from: the visitor's own address, as the host saw it.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    sent_from: str

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


@cache
def address(host: str) -> str:
    """Return the IPv4 address of one of the scenario's hosts."""
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    container = deploying.addresses()[host]
    found = subprocess.run(
        ["docker", "inspect", "--format", template, container], capture_output=True, text=True, check=True
    )
    return found.stdout.split()[0]


def ask(
    method: str,
    to: str,
    name: str,
    target: str = "/",
    *,
    tls: bool = True,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Send one request.

    :param to: the address to connect to.
    :param name: the header Host, and with TLS the name in the handshake. Certificates are not verified.
    :raises OSError: where there is no connection; ``ssl.SSLError`` is one.
    :raises http.client.HTTPException: where the connection ends without an answer.
    """
    connected = socket.create_connection((to, 443 if tls else 80), timeout=TIMEOUT)
    try:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connected = context.wrap_socket(connected, server_hostname=name)
        connection = http.client.HTTPConnection(to, timeout=TIMEOUT)
        connection.sock = connected
        everything = {"Host": name, "Connection": "close", "User-Agent": "visitor", **(headers or {})}
        sent_from = str(connected.getsockname()[0])
        connection.request(method, target, body=body, headers=everything)
        with connection.getresponse() as response:
            named = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, named, response.read(), sent_from)
    finally:
        connected.close()


def get(to: str, name: str, target: str = "/", **more: Any) -> Answer:
    """Send a GET request; the parameters are those of :func:`ask`."""
    return ask("GET", to, name, target, **more)


def post(to: str, name: str, target: str, body: bytes, **more: Any) -> Answer:
    """Send a POST request; the parameters are those of :func:`ask`."""
    return ask("POST", to, name, target, body=body, **more)
