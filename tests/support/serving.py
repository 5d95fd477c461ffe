# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the scenario of every server asks: the live release as systemd, the journal and a client of its socket see it.

A scenario's conftest.py brings the fixture, its tests call what is here with what is the server's own:

    from ansible_collections.flaskops.server.tests.support.serving import served

    __all__ = ["served"]
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying

#: `systemd-analyze security` of an instance: 0 is closed, 10 open.
MOST_EXPOSURE = 1.2

#: What systemd says of the instance of an app with the `limits` and `unit` of these scenarios.
PROPERTIES = {
    "ActiveState": "active",
    "User": "probe",
    "Group": "probe",
    "MemoryMax": str(2**30),
    "TasksMax": "99",
    "LimitNOFILE": "65536",
    "OOMScoreAdjust": "100",
    "Environment": "ONE=1 TWO=2",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
}

#: Python that connects to the live release as `c`; more is added to it.
_CONNECT = (
    "import http.client, socket; c = http.client.HTTPConnection('probe.test');"
    "c.sock = socket.socket(socket.AF_UNIX); c.sock.settimeout(30); c.sock.connect('/srv/{app}/live/http.sock');"
)


@dataclass(frozen=True)
class Served:
    """The release of an app that is live on a host when a test begins."""

    host: Any
    app: str = "probe"

    @cached_property
    def name(self) -> str:
        """The host's name in the inventory."""
        return str(self.host.backend.get_hostname())

    @cached_property
    def address(self) -> str:
        return deploying.addresses()[self.name]

    @cached_property
    def live(self) -> str:
        return str(self.found().live)

    @cached_property
    def home(self) -> str:
        return f"/srv/{self.app}/releases/{self.live}"

    @cached_property
    def unit(self) -> str:
        return f"{self.app}@{self.live}.service"

    @cached_property
    def runtime(self) -> str:
        return f"/run/{self.app}/{self.live}"

    def found(self) -> deploying.Found:
        return deploying.on_host(self.address, self.app)

    def properties(self) -> dict[str, str]:
        """Return what systemd says of the instance; Debian 12's leaves out what is empty."""
        shown = self.host.check_output(f"systemctl show {self.unit}")
        return dict(line.partition("=")[::2] for line in shown.splitlines())

    def main_pid(self) -> str:
        return self.properties()["MainPID"]

    def command(self) -> list[str]:
        """Return the arguments of the main process."""
        return str(self.host.file(f"/proc/{self.main_pid()}/cmdline").content_string).split("\0")[:-1]

    def children(self) -> set[str]:
        """Return the processes right below the main process."""
        pid = self.main_pid()
        return set(self.host.file(f"/proc/{pid}/task/{pid}/children").content_string.split())

    def journal(self) -> list[str]:
        return str(self.host.check_output(f"journalctl --quiet --output cat --unit {self.unit}")).splitlines()

    def exposure(self) -> float:
        said = self.host.check_output(f"systemd-analyze security --no-pager {self.unit} | tail -n 1")
        found = re.search(r"[\d.]+(?= (?:SAFE|OK|MEDIUM|EXPOSED|UNSAFE))", said)
        assert found, said
        return float(found[0])

    def facts(self) -> dict[str, Any]:
        """Return what release.json says."""
        facts: dict[str, Any] = json.loads(self.host.file(f"{self.home}/release.json").content_string)
        return facts

    def ask(self, target: str = "/") -> tuple[int, str]:
        """Ask the release past nginx, as :func:`deploying.fetch`."""
        return deploying.ask_live(self.address, target, self.app)

    def python(self, script: str) -> str:
        """Run Python on the host, with `c` connected to the release, and return what it prints."""
        return str(self.host.check_output("python3 -c %s", _CONNECT.format(app=self.app) + script))

    @contextlib.contextmanager
    def asking(self, target: str) -> Iterator[subprocess.Popen[str]]:
        """Have a request in flight; its status is printed when it is answered."""
        script = _CONNECT.format(app=self.app) + f"c.request('GET', {target!r}); print(c.getresponse().status)"
        command = ["docker", "exec", self.address, "python3", "-c", script]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            time.sleep(1)
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def served(host: Any) -> Served:
    return Served(host)


def check_properties(served: Served, own: Mapping[str, str]) -> None:
    """systemd has what the app asked for, and the server's own.

    :param own: such as ``{"Type": "notify"}``.
    """
    said = served.properties()
    wanted = {**PROPERTIES, **own}
    assert {name: said.get(name, "") for name in wanted} == wanted


def check_own_virtualenv(served: Served) -> None:
    """The process and the app in it use the virtualenv of this very release."""
    assert served.command()[0] == f"{served.home}/venv/bin/python"
    _unused, body = served.ask("/process")
    assert json.loads(body)["venv"] == f"{served.home}/venv"


def check_socket(served: Served, socket: str = "http.sock", mode: int = 0o770) -> None:
    """Only the app and nginx reach a socket of the release."""
    path = f"{served.runtime}/{socket}"
    found = served.host.file(path)
    assert (found.user, found.group, found.mode & 0o777) == (served.app, served.app, mode)
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}')"
    assert served.host.run(f'runuser -u www-data -- python3 -c "{connect}"').rc == 0
    assert served.host.run(f'runuser -u nobody -- python3 -c "{connect}"').rc != 0


def check_access_log(served: Served) -> None:
    """A request gives one line of JSON in the journal, without its query string."""
    served.python(
        r"c.request('GET', '/version?token=secret', headers={'X-Request-ID': 'r-17', 'X-Forwarded-For': '203.0.113.9',"
        r" 'User-Agent': 'quote \" backslash \\\\ end'}); c.getresponse().read()"
    )
    lines = deploying.wait_until("a line of the access log", lambda: [x for x in served.journal() if "r-17" in x])
    (said,) = [json.loads(line) for line in lines]
    assert (said["request_id"], said["remote"], said["method"], said["host"], said["path"], said["status"]) == (
        *("r-17", "203.0.113.9", "GET", "probe.test", "/version"),
        200,
    )
    assert said["user_agent"] == 'quote " backslash \\\\ end'
    assert said["release"] == served.live
    assert 0 <= said["duration"] < 5 and said["bytes"] > 0
    # And the server writes none of its own.
    assert not [line for line in served.journal() if "GET /version" in line]


def check_refusal(served: Served, wrong: Mapping[str, Any], said: str) -> None:
    """What is misspelt is refused, with the reason, and nothing on the host is touched.

    :param wrong: keys of the app.
    """
    before = served.found()
    app = deploying.probe_app(deploying.PROBE, **wrong)
    run = deploying.playbook("deploy", "--limit", served.name, apps=[app])
    assert run.code != 0
    assert said in run.output, run.output
    after = served.found()
    assert (after.live, after.instances, after.releases) == (before.live, before.instances, before.releases)


def check_graceful_stop(served: Served, most: float, idle: float = 2) -> None:
    """A stop finishes what is in flight, and takes no time where nothing is.

    :param most: seconds that a stop may take while an answer of three seconds is in flight.
    :param idle: seconds that it may take otherwise.
    """
    with served.asking("/slow?seconds=3") as asking:
        assert stop(served) < most
        assert asking.communicate(timeout=30)[0].strip() == "200"
    assert served.host.service(served.unit).is_running is False
    start(served)
    assert stop(served) < idle
    start(served)


def stop(served: Served) -> float:
    """Stop the app and return the seconds that it took."""
    began = time.monotonic()
    served.host.check_output(f"systemctl stop {served.app} {served.unit}")
    return time.monotonic() - began


def start(served: Served) -> None:
    """Start the app and wait until it answers."""

    def answers() -> bool:
        try:
            return served.ask("/healthz")[0] == 200
        except AssertionError:
            return False

    served.host.check_output(f"systemctl start {served.app}")
    deploying.wait_until("the live release serves again", answers)
