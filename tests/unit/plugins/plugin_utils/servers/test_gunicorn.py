# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is said of Gunicorn is held together with the Gunicorn that is installed."""

from __future__ import annotations

import re
from pathlib import Path

import gunicorn
import gunicorn.config
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.gunicorn import (
    HOOKS,
    RESERVED,
    SERVER,
    SETTINGS,
)

ROLES = Path(__file__).resolve().parents[5] / "roles"


def test_the_settings_are_those_of_gunicorn() -> None:
    known = {setting.name: setting for setting in gunicorn.config.KNOWN_SETTINGS}
    assert set(known) - HOOKS - set(RESERVED) == SETTINGS
    assert not SETTINGS & HOOKS and not SETTINGS & set(RESERVED)
    assert set(known) >= HOOKS | set(RESERVED)
    # A hook is what Gunicorn wants a function for, and cannot be expressed otherwise.
    assert {name for name, setting in known.items() if callable(setting.default)} == HOOKS


def test_the_version_is_the_one_that_is_deployed() -> None:
    assert SERVER.packages == (f"gunicorn=={gunicorn.__version__}",)


def test_what_is_wrong_with_settings() -> None:
    given = {"timeout": 5, "bind": "x", "on_exit": "f", "tiemout": 5, "zzzzz": 1, "graceful_timeout": True}
    assert SERVER.find_errors(given, "g") == [
        "g.bind: cannot be set here, the release controls the socket: nginx and the health check connect to it",
        "g.on_exit: a Python function, which YAML cannot express",
        "g.tiemout: not a setting of Gunicorn, did you mean timeout?",
        "g.zzzzz: not a setting of Gunicorn",
        "g.graceful_timeout: expected a whole number of seconds",
    ]


def test_the_configuration_sets_what_gunicorn_knows() -> None:
    template = (ROLES / "gunicorn/templates/serve/gunicorn.conf.py.j2").read_text()
    set_here = set(re.findall(r"^(\w+) = ", template, re.MULTILINE)) - {"ProxyFix"}
    assert set_here <= {setting.name for setting in gunicorn.config.KNOWN_SETTINGS}


def test_how_long_an_instance_may_take_to_end() -> None:
    assert (SERVER.drain_seconds({}), SERVER.drain_seconds({"graceful_timeout": 90})) == (25, 90)
