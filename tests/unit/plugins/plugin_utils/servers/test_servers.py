# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contract that every server keeps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes import images
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import APP

ROLES = Path(__file__).resolve().parents[5] / "roles"

every_server = pytest.mark.parametrize("name", SERVERS)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@every_server
def test_it_has_a_role_with_its_templates(name: str) -> None:
    assert (ROLES / name / "templates" / "service.conf.j2").is_file()
    assert list((ROLES / name / "templates" / "serve").iterdir())


@every_server
def test_its_role_brings_what_a_host_needs_and_then_deploys_its_app(name: str) -> None:
    # One that comes with the virtualenv alone needs nothing.
    assert isinstance(read(ROLES / name / "tasks/install.yml") or [], list)
    first, second = read(ROLES / name / "tasks/main.yml")
    assert first["ansible.builtin.import_tasks"] == "install.yml"
    assert second["ansible.builtin.include_role"]["name"] == "flaskops.server.app"
    assert second["vars"]["app_app"] == f"{{{{ {name}_app | combine({{'server': '{name}'}}) }}}}"


@every_server
def test_its_app_is_a_variable_of_its_role_and_its_settings_are_a_key_of_the_app(name: str) -> None:
    defaults = read(ROLES / name / "defaults/main.yml")
    assert defaults[f"{name}_app"] == {}
    assert APP[name].kind == "dict" and APP[name].default == {}
    # They are given to templates as they stand there.
    assert [key for key, value in defaults.items() if "{{" in str(value)] == []


@every_server
def test_its_packages_are_pinned(name: str) -> None:
    assert [item for item in SERVERS[name].packages if not re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", item)] == []


@every_server
def test_the_engine_knows_what_it_runs_in(name: str) -> None:
    assert SERVERS[name].runtime in images.runtimes_of(Layout("shop"))


@every_server
def test_its_time_to_finish_is_a_setting_of_its_own(name: str) -> None:
    server = SERVERS[name]
    assert server.mistakes({server.graceful_setting: 90}, "s") == []
    for wrong in ("90", 1.5, True, None):
        assert server.mistakes({server.graceful_setting: wrong}, "s") == [
            f"s.{server.graceful_setting}: expected a whole number of seconds"
        ]
    assert (server.drain_seconds({}), server.drain_seconds({server.graceful_setting: 90})) == (
        server.graceful_seconds,
        90,
    )
    assert server.drain_seconds({server.graceful_setting: 0}) == 0


@every_server
def test_it_refuses_what_it_does_not_know_by_its_path(name: str) -> None:
    assert SERVERS[name].mistakes({}, "s") == []
    (said,) = SERVERS[name].mistakes({"no-such-setting-at-all": 1}, "apps[0].s")
    assert said.startswith("apps[0].s.no-such-setting-at-all: not a")
