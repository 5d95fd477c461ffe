# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Releases under mod_wsgi, as systemd, the journal and a client of their sockets see them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import mod_wsgi
from ansible_collections.flaskops.server.tests.support import deploying, serving
from ansible_collections.flaskops.server.tests.support.serving import Served


def workers(served: Served) -> set[str]:
    """Return the processes that the app runs in; `display-name` names them."""
    # It ends with 1 where there is none at this moment.
    return set(served.host.run(f"pgrep --parent {served.main_pid()} --full '^the probe'").stdout.split())


def answers(served: Served) -> bool:
    try:
        return served.ask("/healthz")[0] == 200
    except AssertionError:
        return False


def test_systemd_has(served: Served) -> None:
    own = {"Type": "exec", "KillMode": "mixed", "KillSignal": "28", "TimeoutStopUSec": "17s", "NRestarts": "0"}
    serving.check_properties(served, own)


def test_exposure(served: Served) -> None:
    assert served.exposure() <= serving.MOST_EXPOSURE


def test_httpd_is_the_release_s_own(served: Served) -> None:
    assert served.command()[:3] == ["/usr/sbin/apache2", "-f", f"{served.home}/serve/httpd.conf"]
    seen = json.loads(served.ask("/process")[1])
    assert (seen["venv"], seen["cwd"]) == (f"{served.home}/venv", f"{served.home}/app")


def test_the_distribution_s_httpd_does_not_run(host: Any) -> None:
    assert not host.package("apache2").is_installed
    assert not host.file("/etc/apache2").exists
    assert "apache" not in host.check_output("systemctl list-unit-files --no-legend")
    # No app has a port: what is not in its group cannot get past nginx.
    listening = host.check_output("ss --listening --tcp --numeric --processes --no-header")
    assert "apache2" not in listening and ":80 " not in listening


def test_it_is_sized_by_the_host_with_a_reason(served: Served) -> None:
    # 40 % of the 1 GiB that MemoryMax leaves, at 128 MiB a worker.
    said = r"3 workers: 40% of 1024 MiB memory \(MemoryMax\) at 128 MiB a worker; 3 threads each"
    assert re.fullmatch(said, served.facts()["size"]), served.facts()["size"]
    assert len(workers(served)) == 3


def test_every_directive_is_known(served: Served) -> None:
    variables = "RUNTIME_DIRECTORY=/tmp WEB_CONCURRENCY=1 WEB_THREADS=1 HTTPD_THREADS=1"
    module = f"MOD_WSGI_MODULE=$(ls {served.home}/venv/lib/python3*/site-packages/mod_wsgi/server/mod_wsgi-*.so)"
    said = served.host.check_output(
        f"set -a; . {served.home}/env; {variables} {module} apache2 -f {served.home}/serve/httpd.conf -L"
    )
    # Sections, written <Directory, are none. The manual and httpd differ in some capital letters.
    there = {name.lower() for name in re.findall(r"^(\w+) \(", said, re.MULTILINE)}
    reserved = {name.lower() for name in mod_wsgi.RESERVED if not name.islower()}
    assert there - reserved == {name.lower() for name in mod_wsgi.DIRECTIVES}
    assert reserved <= there
    options = mod_wsgi.OPTIONS | {name for name in mod_wsgi.RESERVED if name.islower()}
    found = served.host.check_output(
        f"grep --text --only-matching -E '[a-z][a-z-]+' {module.partition('=')[2]}"
    ).split()
    # A text that is the end of another one is not there twice.
    assert [option for option in options if not any(text.endswith(option) for text in found)] == []


def test_settings_pass_through(served: Served) -> None:
    # httpd refuses by itself what is longer, in the words of ErrorDocument.
    assert served.ask("/" + "x" * 1900)[0] == 404
    assert served.ask("/" + "x" * 2100) == (414, "too long")


def test_the_app_decides_what_a_request_is(served: Served) -> None:
    # What the app answers is not replaced by ErrorDocument, and httpd refuses no path of its own accord.
    for path in ("/nowhere", "/a%2Fb", "/a%5Cb", "//a", "/.htaccess"):
        status, body = served.ask(path)
        assert status == 404 and "requested URL was not found" in body and body != "nowhere", path
    headers = "{'Authorization': 'Bearer x', 'X-Long': 'y' * 60000}"
    seen = served.python(f"c.request('GET', '/whoami', headers={headers}); print(c.getresponse().read().decode())")
    assert json.loads(seen)["headers"]["Authorization"] == "Bearer x"
    assert len(json.loads(seen)["headers"]["X-Long"]) == 60000


def test_only_the_app_and_nginx_reach_the_socket(served: Served) -> None:
    serving.check_socket(served)


def test_the_access_log_is_json_in_the_journal(served: Served) -> None:
    serving.check_access_log(served)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"mod_wsgi": {"request-timout": 3}},
            "flask_apps[0].mod_wsgi.request-timout: not an option of WSGIDaemonProcess or a directive of httpd, did you"
            " mean request-timeout?",
        ),
        ({"mod_wsgi": {"Listen": 80}}, "flask_apps[0].mod_wsgi.Listen: cannot be set here"),
        ({"unit": {"MemryMax": "1G"}}, "has a unit that systemd refuses"),
    ],
)
def test_what_is_misspelt_is_refused(served: Served, wrong: dict[str, Any], said: str) -> None:
    serving.check_refusal(served, {"server": "mod_wsgi", **wrong}, said)


def test_the_shop_serves(host: Any) -> None:
    shop = Served(host, "shop")
    status, page = shop.ask("/")
    assert status == 200 and "Iron Goddess" in page
    serving.check_socket(shop)


def test_httpbin_serves(host: Any) -> None:
    httpbin = Served(host, "httpbin")
    assert httpbin.ask("/status/418")[0] == 418
    assert [json.loads(line)["id"] for line in httpbin.ask("/stream/3")[1].splitlines()] == [0, 1, 2]
    size = 5 * 1024 * 1024
    posted = f"c.request('POST', '/post', b'x' * {size}, {{'Content-Type': 'text/plain'}}); r = c.getresponse();"
    received = "import json; print(r.status, len(json.loads(r.read())['data']))"
    assert httpbin.python(posted + received).strip() == f"200 {size}"


def test_a_stop_finishes_what_is_in_flight(served: Served) -> None:
    # The graceful timeout is 7 s; httpd looks once a second whether all is done.
    serving.check_graceful_stop(served, most=8, idle=4)


def test_an_app_s_process_that_dies_is_replaced(served: Served) -> None:
    before = workers(served)
    killed = min(before)
    served.host.check_output(f"kill -KILL {killed}")
    deploying.wait_until("another process", lambda: len(workers(served) - {killed}) == len(before))
    assert answers(served)


def test_an_app_that_cannot_be_imported_ends_the_instance(served: Served) -> None:
    broken = f"{served.home}/app/behaviour.py"
    served.host.check_output(f"mv {broken} {broken}.kept && systemctl restart {served.unit}")
    try:
        deploying.wait_until("its end", lambda: int(served.properties()["NRestarts"]) > 0)
        assert "ModuleNotFoundError: No module named 'behaviour'" in served.journal()
    finally:
        served.host.check_output(f"mv {broken}.kept {broken}")
    # And it comes back by itself.
    deploying.wait_until("the live release serves again", lambda: answers(served))


def test_without_httpd_the_instance_is_dead(served: Served) -> None:
    restarts = int(served.properties()["NRestarts"])
    served.host.check_output(f"kill -KILL {served.main_pid()}")
    deploying.wait_until("its end", lambda: int(served.properties()["NRestarts"]) > restarts)
    deploying.wait_until("the live release serves again", lambda: answers(served))
