# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is said of uWSGI is held together with the uWSGI that is deployed, where that one is installed."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.uwsgi import RESERVED, SERVER, SETTINGS

ROLE = Path(__file__).resolve().parents[5] / "roles" / "uwsgi"

#: Those that the configuration sets and an app may not.
OURS = set("chmod-socket exit-on-reload http-socket master module need-app pythonpath stats strict".split())


def installed() -> str | None:
    try:
        return importlib.metadata.version("pyuwsgi")
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.skipif(installed() is None, reason="pyuwsgi is not installed here")
def test_the_settings_are_those_of_uwsgi() -> None:
    assert SERVER.packages == (f"pyuwsgi=={installed()}",)
    command = [sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    known = set(re.findall(r"^ +(?:-\S\|)?--(\S+)", said, re.MULTILINE))
    assert known == SETTINGS | set(RESERVED)


def test_an_option_is_either_free_or_reserved() -> None:
    assert not SETTINGS & set(RESERVED)


def test_the_configuration_sets_what_uwsgi_knows() -> None:
    template = (ROLE / "templates/serve/uwsgi.ini.j2").read_text()
    set_here = set(re.findall(r"^([\w-]+) = ", template, re.MULTILINE))
    assert set_here & set(RESERVED) == OURS
    assert set_here - OURS <= SETTINGS


def test_what_is_wrong_with_settings() -> None:
    given = {
        "harakiri": 5,
        "http-socket": "x",
        "stats-server": "x",
        "thunder-lok": True,
        "zzzzz": 1,
        "worker-reload-mercy": True,
        "static-map": ["/a=/b", "/c=/d"],
        "env": "A=1\nB=2",
        "mule": [None],
        "cron": {"a": 1},
    }
    line = "expected a text of one line, a number, true or false, or a list of them"
    assert SERVER.find_errors(given, "u") == [
        "u.http-socket: cannot be set here, the release controls the socket: nginx and the health check connect to "
        "it, and two releases run side by side during a deploy",
        "u.stats-server: cannot be set here, every release has its own, /run/APP/RELEASE/stats.sock",
        "u.thunder-lok: not an option of uWSGI, did you mean thunder-lock?",
        "u.zzzzz: not an option of uWSGI",
        "u.worker-reload-mercy: expected a whole number of seconds",
        f"u.env: {line}",
        f"u.mule: {line}",
        f"u.cron: {line}",
    ]


def test_how_long_an_instance_may_take_to_end() -> None:
    assert (SERVER.drain_seconds({}), SERVER.drain_seconds({"worker-reload-mercy": 90})) == (25, 90)
