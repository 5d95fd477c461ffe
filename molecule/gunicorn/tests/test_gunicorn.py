# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A release under Gunicorn, as systemd, the journal and a client of its socket see it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying

#: Python that connects to the live release; more is added to it.
CONNECT = (
    "import http.client, socket; c = http.client.HTTPConnection('probe.test');"
    "c.sock = socket.socket(socket.AF_UNIX); c.sock.connect('/srv/probe/live/http.sock');"
)


@pytest.fixture
def address(host: Any) -> str:
    return deploying.addresses()[host.backend.get_hostname()]


@pytest.fixture
def unit(address: str) -> str:
    return f"probe@{deploying.on_host(address).live}.service"


@pytest.fixture
def properties(host: Any, unit: str) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in host.check_output(f"systemctl show {unit}").splitlines())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ActiveState", "active"),
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("User", "probe"),
        ("KillMode", "mixed"),
        ("TimeoutStopUSec", "17s"),
        ("MemoryMax", str(2**30)),
        ("TasksMax", "99"),
        ("LimitNOFILE", "65536"),
        ("OOMScoreAdjust", "100"),
        ("Environment", "ONE=1 TWO=2"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("PrivateTmp", "yes"),
        ("CapabilityBoundingSet", ""),
    ],
)
def test_systemd_has(properties: dict[str, str], name: str, value: str) -> None:
    # Debian 12's systemctl leaves out what is empty.
    assert properties.get(name, "") == value


def test_exposure(host: Any, unit: str) -> None:
    said = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
    assert float(re.search(r"[\d.]+(?= OK)", said)[0]) <= 1.2


def test_the_release_s_own_virtualenv_serves(address: str, host: Any, properties: dict[str, str]) -> None:
    live = deploying.on_host(address).live
    arguments = host.file(f"/proc/{properties['MainPID']}/cmdline").content_string.split("\0")
    assert arguments[:3] == [f"/srv/probe/releases/{live}/venv/bin/python", "-m", "gunicorn"]
    _, body = deploying.ask_live(address, "/process")
    assert json.loads(body)["venv"] == f"/srv/probe/releases/{live}/venv"


def test_it_is_sized_by_the_host_with_a_reason(address: str, host: Any, properties: dict[str, str]) -> None:
    facts = json.loads(host.file("/srv/probe/live/release.json").content_string)
    # 40 % of the 1 GiB that MemoryMax leaves, at 128 MiB a worker.
    said = re.fullmatch(
        r"3 workers: 40% of 1024 MiB memory \(MemoryMax\) at 128 MiB a worker; 3 threads each", facts["size"]
    )
    assert said, facts["size"]
    workers = host.file(f"/proc/{properties['MainPID']}/task/{properties['MainPID']}/children").content_string.split()
    assert len(workers) == 3


def test_settings_pass_through(host: Any, address: str) -> None:
    live = f"/srv/probe/releases/{deploying.on_host(address).live}"
    gunicorn = f"../venv/bin/python -m gunicorn --print-config --config {live}/serve/gunicorn.conf.py"
    printed = host.check_output(f"cd {live}/app && set -a && . {live}/env && {gunicorn}")
    said = dict(re.findall(r"^(\w+)\s+= (.*)$", printed, re.MULTILINE))
    wanted = {"timeout": "33", "graceful_timeout": "7", "max_requests": "5000", "limit_request_line": "2000"}
    assert {name: said[name] for name in wanted} == wanted
    # A request line longer than that is refused by Gunicorn itself.
    status, _ = deploying.ask_live(address, "/" + "x" * 2100)
    assert status == 414


def test_only_the_app_and_nginx_reach_the_socket(host: Any, address: str) -> None:
    socket = host.file(f"/run/probe/{deploying.on_host(address).live}/http.sock")
    assert (socket.user, socket.group, socket.mode & 0o777) == ("probe", "probe", 0o770)
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/srv/probe/live/http.sock')"
    assert host.run(f'runuser -u www-data -- python3 -c "{connect}"').rc == 0
    assert host.run(f'runuser -u nobody -- python3 -c "{connect}"').rc != 0


def test_the_access_log_is_json_in_the_journal(host: Any, address: str, unit: str) -> None:
    question = CONNECT + (
        r"c.request('GET', '/version?token=secret', headers={'X-Request-ID': 'r-17', 'X-Forwarded-For': '203.0.113.9',"
        r" 'User-Agent': 'quote \" backslash \\\\ end'}); c.getresponse().read()"
    )
    host.check_output("python3 -c %s", question)

    def line() -> dict[str, Any] | None:
        lines = host.check_output(f"journalctl --unit {unit} --output cat").splitlines()
        return next((json.loads(found) for found in lines if "r-17" in found), None)

    said = deploying.wait_until("a line of the access log", line)
    assert (said["request_id"], said["remote"], said["path"], said["status"]) == (
        "r-17",
        "203.0.113.9",
        "/version",
        200,
    )
    assert said["user_agent"] == 'quote " backslash \\\\ end'
    assert 0 <= said["duration"] < 5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"gunicorn": {"time_out": 3}},
            "flask_apps[0].gunicorn.time_out: not a setting of Gunicorn, did you mean timeout?",
        ),
        ({"gunicorn": {"bind": ":80"}}, "flask_apps[0].gunicorn.bind: cannot be set here"),
        ({"unit": {"MemryMax": "1G"}}, "has a unit that systemd refuses"),
    ],
)
def test_what_is_misspelt_is_refused(host: Any, address: str, wrong: dict[str, Any], said: str) -> None:
    before = deploying.on_host(address)
    app = deploying.probe_app(deploying.PROBE, **wrong)
    run = deploying.playbook("deploy", "--limit", host.backend.get_hostname(), apps=[app])
    assert run.code != 0
    assert said in run.output
    after = deploying.on_host(address)
    assert (after.live, after.instances, after.releases) == (before.live, before.instances, before.releases)


def test_a_stop_finishes_what_is_in_flight(host: Any, address: str, unit: str) -> None:
    question = CONNECT + "c.request('GET', '/slow?seconds=3'); print(c.getresponse().status)"
    asking = subprocess.Popen(["docker", "exec", address, "python3", "-c", question], stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    began = time.monotonic()
    host.check_output("systemctl stop probe")
    took = time.monotonic() - began
    assert asking.communicate(timeout=30)[0].strip() == "200"
    assert took < 8, "the graceful timeout is 7 s"
    assert host.service(unit).is_running is False
    host.check_output("systemctl start probe")
    deploying.wait_until("the live release serves again", lambda: host.service(unit).is_running)
