# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A release under Gunicorn, as systemd, the journal and a client of its socket see it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import serving
from ansible_collections.flaskops.server.tests.support.serving import Served


def test_systemd_has(served: Served) -> None:
    own = {"Type": "notify", "NotifyAccess": "main", "KillMode": "mixed", "TimeoutStopUSec": "17s"}
    serving.check_properties(served, own)


def test_exposure(served: Served) -> None:
    assert served.exposure() <= serving.MOST_EXPOSURE


def test_the_release_s_own_virtualenv_serves(served: Served) -> None:
    assert served.command()[1:3] == ["-m", "gunicorn"]
    serving.check_own_virtualenv(served)


def test_it_is_sized_by_the_host_with_a_reason(served: Served) -> None:
    # 40 % of the 1 GiB that MemoryMax leaves, at 128 MiB a worker.
    said = r"3 workers: 40% of 1024 MiB memory \(MemoryMax\) at 128 MiB a worker; 3 threads each"
    assert re.fullmatch(said, served.facts()["size"]), served.facts()["size"]
    assert len(served.children()) == 3


def test_settings_pass_through(served: Served) -> None:
    gunicorn = f"../venv/bin/python -m gunicorn --print-config --config {served.home}/serve/gunicorn.conf.py"
    environment = f"set -a && . {served.home}/env && PYTHONPATH=$PYTHONPATH:{served.home}/serve"
    printed = served.host.check_output(f"cd {served.home}/app && {environment} && {gunicorn}")
    said = dict(re.findall(r"^(\w+)\s+= (.*)$", printed, re.MULTILINE))
    wanted = {"timeout": "33", "graceful_timeout": "7", "max_requests": "5000", "limit_request_line": "2000"}
    assert {name: said[name] for name in wanted} == wanted
    # A request line longer than that is refused by Gunicorn itself.
    assert served.ask("/" + "x" * 2100)[0] == 414


def test_only_the_app_and_nginx_reach_the_socket(served: Served) -> None:
    serving.check_socket(served)


def test_the_access_log_is_json_in_the_journal(served: Served) -> None:
    serving.check_access_log(served)


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
def test_what_is_misspelt_is_refused(served: Served, wrong: dict[str, Any], said: str) -> None:
    serving.check_refusal(served, wrong, said)


def test_a_stop_finishes_what_is_in_flight(served: Served) -> None:
    # The graceful timeout is 7 s.
    serving.check_graceful_stop(served, most=8)
