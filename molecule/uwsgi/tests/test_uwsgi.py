# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A release under uWSGI, as systemd, the journal and a client of its socket see it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, serving
from ansible_collections.flaskops.server.tests.support.serving import Served

#: Python on a host that prints what the release's stats socket says.
STATS = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('{}/stats.sock'); print(s.makefile().read())"


@pytest.fixture
def shop(host: Any) -> Served:
    return Served(host, "shop")


@pytest.fixture
def httpbin(host: Any) -> Served:
    return Served(host, "httpbin")


def stats(served: Served) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(served.host.check_output("python3 -c %s", STATS.format(served.runtime)))
    return said


# -- what systemd has --------------------------------------------------------------------------------------------------


def test_systemd_has(served: Served) -> None:
    # 1 is SIGHUP.
    own = {"Type": "notify", "NotifyAccess": "main", "KillMode": "mixed", "KillSignal": "1", "TimeoutStopUSec": "17s"}
    serving.check_properties(served, own)


def test_exposure(served: Served) -> None:
    assert served.exposure() <= serving.MOST_EXPOSURE


def test_the_release_s_own_virtualenv_serves(served: Served) -> None:
    assert served.command()[1:3] == ["-c", "import pyuwsgi; pyuwsgi.run()"]
    serving.check_own_virtualenv(served)


def test_it_is_sized_by_the_host_with_a_reason(served: Served) -> None:
    # 40 % of the 1 GiB that MemoryMax leaves, at 128 MiB a worker.
    said = r"3 workers: 40% of 1024 MiB memory \(MemoryMax\) at 128 MiB a worker; 3 threads each"
    assert re.fullmatch(said, served.facts()["size"]), served.facts()["size"]
    assert len(served.children()) == 3
    assert [len(worker["cores"]) for worker in stats(served)["workers"]] == [3, 3, 3]


def test_only_the_app_and_nginx_reach_the_sockets(served: Served) -> None:
    serving.check_socket(served, mode=0o660)
    serving.check_socket(served, "stats.sock", mode=0o660)


def test_the_stats_socket_counts(served: Served) -> None:
    def requests() -> int:
        return sum(worker["requests"] for worker in stats(served)["workers"])

    before = requests()
    for _unused in range(5):
        served.ask("/version")
    assert requests() == before + 5
    # The option memory-report of this app.
    assert any(worker["rss"] > 2**20 for worker in stats(served)["workers"])


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_pass_through(served: Served) -> None:
    said = "\n".join(served.journal())
    # In the place of ours, as a flag that is off, and as a list.
    assert "your server socket listen backlog is limited to 300 connections" in said
    assert "your mercy for graceful operations on workers is 7 seconds" in said
    assert "thunder lock: disabled" in said
    assert "hook one" in said and "hook two" in said
    # With the variables of uWSGI's own configuration.
    assert served.ask("/its-version") == (200, "1\n")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"harakirri": 3}, "flask_apps[0].uwsgi.harakirri: not an option of uWSGI, did you mean harakiri?"),
        ({"http-socket": ":80"}, "flask_apps[0].uwsgi.http-socket: cannot be set here"),
        (
            {"daemonize": "/tmp/log"},
            "flask_apps[0].uwsgi.daemonize: cannot be set here, systemd supervises the process, which must stay in the foreground",
        ),
        ({"worker-reload-mercy": "7s"}, "flask_apps[0].uwsgi.worker-reload-mercy: expected a whole number of seconds"),
    ],
)
def test_what_is_misspelt_is_refused(served: Served, wrong: dict[str, Any], said: str) -> None:
    serving.check_refusal(served, {"server": "uwsgi", "uwsgi": wrong}, said)


def test_uwsgi_refuses_what_it_does_not_know(served: Served) -> None:
    """The last line of defence, where the list of options is behind the installed uWSGI."""
    command = f'{served.home}/venv/bin/python -c "import pyuwsgi; pyuwsgi.run()" --ini /tmp/misspelt.ini'
    served.host.check_output("printf '[uwsgi]\nstrict = true\nbuffersize = 1\n' >/tmp/misspelt.ini")
    run = served.host.run(command)
    assert run.rc == 1 and "[strict-mode] unknown config directive: buffersize" in run.stderr + run.stdout


# -- requests ----------------------------------------------------------------------------------------------------------


def test_the_access_log_is_json_in_the_journal(served: Served) -> None:
    serving.check_access_log(served)


def test_headers_as_long_as_nginx_lets_through(served: Served) -> None:
    for many, long in ((4, 7900), (300, 90)):
        headers = f"headers = {{f'X-Long-{{n}}': 'v' * {long} for n in range({many})}};"
        asked = "c.request('GET', '/whoami', headers=headers); answer = c.getresponse(); seen = answer.read();"
        assert served.python(f"{headers} {asked} print(answer.status, seen.count(b'X-Long-'))") == f"200 {many}"


def test_a_body_that_the_app_does_not_read_costs_no_answer(served: Served) -> None:
    # Of a route that takes no POST: the app answers at once.
    asked = "c.request('POST', '/version', body=b'x' * 3_000_000); answer = c.getresponse(); answer.read();"
    for _unused in range(20):
        assert served.python(f"{asked} print(answer.status)") == "405"


def test_an_answer_of_unknown_length_has_an_end(served: Served) -> None:
    asked = "c.request('GET', '/stream?lines=3'); answer = c.getresponse(); text = answer.read().decode();"
    said = served.python(f"{asked} print(answer.getheaders(), text)")
    assert "('Transfer-Encoding', 'chunked')" in said and "('Connection', 'close')" in said
    assert said.endswith("0\n1\n2\nend")


def test_a_worker_that_dies_is_replaced(served: Served) -> None:
    before = served.children()
    _unused, body = served.ask("/version")
    served.host.check_output(f"kill -KILL {json.loads(body)['pid']}")
    deploying.wait_until("another worker", lambda: served.children() - before)
    assert len(served.children()) == len(before)
    assert served.ask("/healthz")[0] == 200


# -- ends --------------------------------------------------------------------------------------------------------------


def test_a_stop_finishes_what_is_in_flight(served: Served) -> None:
    # Mercy is 7 s.
    serving.check_graceful_stop(served, most=8)


def test_a_stop_waits_no_longer_than_its_mercy(served: Served) -> None:
    with served.asking("/slow?seconds=60"):
        assert serving.stop(served) < 7 + 4
    serving.start(served)


def test_a_master_that_dies_is_noticed(served: Served) -> None:
    pid = served.main_pid()
    served.host.check_output(f"kill -KILL {pid}")
    deploying.wait_until(
        "another one", lambda: served.properties()["ActiveState"] == "active" and served.main_pid() not in (pid, "0")
    )
    assert served.properties()["NRestarts"] == "1"
    serving.start(served)


# -- real apps ---------------------------------------------------------------------------------------------------------


def test_the_shop_sells(shop: Served) -> None:
    status, page = shop.ask("/")
    assert status == 200 and "Iron Goddess" in page
    form = "headers = {'Content-Type': 'application/x-www-form-urlencoded', 'X-Forwarded-Proto': 'https'};"
    asked = "c.request('POST', '/cart', body='product=3&quantity=2', headers=headers); answer = c.getresponse();"
    assert (
        shop.python(f"{form} {asked} print(answer.status, 'session=' in answer.getheader('Set-Cookie'))") == "303 True"
    )


def test_harakiri_ends_what_hangs(httpbin: Served) -> None:
    """Its one worker has one thread, and three seconds."""
    before = httpbin.children()
    with httpbin.asking("/delay/9") as asking:
        said = asking.communicate(timeout=30)[0]
    assert "RemoteDisconnected" in said or "ConnectionResetError" in said, said
    deploying.wait_until("another worker", lambda: httpbin.children() and not httpbin.children() & before)
    assert any("HARAKIRI ON WORKER 1" in line for line in httpbin.journal())
    assert httpbin.ask("/status/204")[0] == 204


def test_httpbin_answers(httpbin: Served) -> None:
    assert httpbin.ask("/status/418")[0] == 418
    _unused, lines = httpbin.ask("/stream/5")
    assert [json.loads(line)["id"] for line in lines.splitlines()] == [0, 1, 2, 3, 4]
    asked = "c.request('POST', '/post', body=b'x' * 5_000_000, headers={'Content-Type': 'text/plain'});"
    assert httpbin.python(f"import json; {asked} print(len(json.load(c.getresponse())['data']))") == "5000000"
    assert len(stats(httpbin)["workers"][0]["cores"]) == 1
