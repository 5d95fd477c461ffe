# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an app may say of mod_wsgi and httpd; that both know it is asked of them by the scenario mod_wsgi."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.mod_wsgi import (
    DIRECTIVES,
    OPTIONS,
    RESERVED,
    SERVER,
)

GRACEFUL = "GracefulShutdownTimeout"
ROLE = Path(__file__).resolve().parents[5] / "roles" / "mod_wsgi"


def test_options_and_directives_are_told_apart_by_their_letters() -> None:
    assert all(name.islower() for name in OPTIONS)
    assert not any(name.islower() for name in DIRECTIVES)
    assert not (OPTIONS | DIRECTIVES) & set(RESERVED)


def test_what_is_right_with_settings() -> None:
    given = {
        "request-timeout": 60,
        "lang": "de_DE.UTF-8",
        "TimeOut": 90,
        "WSGIPassAuthorization": False,
        "ErrorDocument": ['503 "soon"', '404 "nowhere"'],
        "GracefulShutdownTimeout": 7,
    }
    assert SERVER.find_errors(given, "m") == []


def test_what_is_wrong_with_settings() -> None:
    given = {"request_timeout": 60, "Timeout": 5, "zzzzz": 1, "processes": 2, "LoadModule": "x y", "python-path": "/"}
    unknown = "not an option of WSGIDaemonProcess or a directive of httpd"
    assert SERVER.find_errors(given, "m") == [
        f"m.request_timeout: {unknown}, did you mean request-timeout?",
        f"m.Timeout: {unknown}, did you mean TimeOut?",
        f"m.zzzzz: {unknown}",
        "m.processes: cannot be set here, set workers",
        "m.LoadModule: cannot be set here, no other modules are loaded; nginx or the app does their job",
        "m.python-path: cannot be set here, set PYTHONPATH in env",
    ]


@pytest.mark.parametrize("value", [True, "x\ny", 'x" user="root', "x\\", ["x"], None, {}])
def test_an_option_is_one_word(value: object) -> None:
    assert SERVER.find_errors({"display-name": value}, "m") == [
        "m.display-name: expected a number, or a text of one line without double quotes"
    ]


@pytest.mark.parametrize("value", ["x\nListen 80", "x\r", "x\\", [["x"]], None, {}])
def test_a_directive_is_one_line(value: object) -> None:
    assert SERVER.find_errors({"ServerAdmin": value}, "m") == [
        "m.ServerAdmin: expected a number, true, false, a text of one line, or a list of them"
    ]


@pytest.mark.parametrize("value", ["7", 7.5, True, -1, [7]])
def test_the_graceful_timeout_is_a_number(value: object) -> None:
    assert SERVER.find_errors({GRACEFUL: value}, "m") == [f"m.{GRACEFUL}: expected a whole number of seconds"]


def test_how_long_an_instance_may_take_to_end() -> None:
    assert (SERVER.drain_seconds({}), SERVER.drain_seconds({GRACEFUL: 90})) == (25, 90)


def test_the_configuration_sets_what_is_known() -> None:
    template = (ROLE / "templates/serve/httpd.conf.j2").read_text()
    set_here = set(re.findall(r"^(\w+) ", template, re.MULTILINE))
    assert set_here <= DIRECTIVES | set(RESERVED)


def test_a_listener_that_changed_has_another_name() -> None:
    """Releases load it by its name, and those that are kept for a rollback were proved with theirs."""
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    path = variables["__mod_wsgi_listener"]
    assert f"LoadModule listen_unix_module {path}\n" in (ROLE / "templates/serve/httpd.conf.j2").read_text()
    digest = hashlib.sha256((ROLE / "files/mod_listen_unix.c").read_bytes()).hexdigest()[:12]
    assert {path: digest} == {"/usr/local/lib/flaskops/mod_listen_unix-1.so": "eed65037e363"}
