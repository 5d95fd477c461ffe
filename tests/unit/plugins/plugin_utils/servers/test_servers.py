# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contract that every server keeps."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.runtimes import runtimes_for
from ansible_collections.flaskops.server.plugins.plugin_utils import servers
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.base import Server
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import APP

ROOT = Path(__file__).resolve().parents[5]
#: Every server, and what only has a part of one: a module here, or a role.
NAMES = list(
    dict.fromkeys(
        [
            *SERVERS,
            *(module.name for module in pkgutil.iter_modules(servers.__path__) if module.name != "base"),
            *sorted(path.parts[-3] for path in ROOT.glob("roles/*/templates/service.conf.j2")),
        ]
    )
)

#: What there is in the role of every server.
FILES_OF_A_ROLE = (
    "templates/service.conf.j2",
    "templates/serve",
    "tasks/install.yml",
    "tasks/main.yml",
    "defaults/main.yml",
    "meta/argument_specs.yml",
    "meta/main.yml",
)


def read(path: Path) -> Any:
    """Return what a YAML file says, nothing where there is none."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def lacks(name: str, server: Server | None, root: Path = ROOT) -> list[str]:
    """Return what a server lacks, in words; see docs/architecture.md, "A further server"."""
    role, lacking = f"roles/{name}", []
    here = {f"{role}/{path}": (root / role / path).exists() for path in FILES_OF_A_ROLE}
    lacking += [f"{path}: missing" for path, is_there in here.items() if not is_there]
    if here[f"{role}/defaults/main.yml"] and read(root / role / "defaults/main.yml").get(f"{name}_app") != {}:
        lacking.append(f"{role}/defaults/main.yml: expected {name}_app: {{}}")
    options = read(root / role / "meta/argument_specs.yml").get("argument_specs", {}).get("main", {}).get("options", {})
    if here[f"{role}/meta/argument_specs.yml"] and f"{name}_app" not in options:
        lacking.append(f"{role}/meta/argument_specs.yml: expected the option {name}_app")
    tasks = read(root / role / "tasks/main.yml") or [{}]
    if here[f"{role}/tasks/main.yml"] and (
        [
            tasks[0].get("ansible.builtin.import_tasks"),
            (tasks[-1].get("ansible.builtin.include_role") or {}).get("name"),
        ]
        != ["install.yml", "flaskops.server.app"]
        or tasks[-1].get("vars") != {"app_app": f"{{{{ {name}_app | combine({{'server': '{name}'}}) }}}}"}
    ):
        lacking.append(f"{role}/tasks/main.yml: expected an import of install.yml, and the role app with {name}_app")
    if f"`{name}`" not in (root / "docs/servers.md").read_text(encoding="utf-8"):
        lacking.append(f"docs/servers.md: expected a word on `{name}`")
    module = f"plugins/plugin_utils/servers/{name}.py: "
    if server is None:
        return [*lacking, f"{module}missing, or without SERVER = Server(name={name!r}, ...)"]
    known = runtimes_for(Layout("shop"))
    said = {
        f"name: expected {name!r}": server.name == name,
        "options: expected Field('dict', ..., default={}) with a sentence, the app's key": bool(server.options.doc)
        and (server.options.kind, server.options.default) == ("dict", {}),
        "packages: expected pinned ones, NAME==VERSION": all(
            re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", item) for item in server.packages
        ),
        f"runtime: expected one of {', '.join(known)}": server.runtime in known,
        "settings: expected those that an app may pass through": bool(server.settings),
        "setting_noun: expected what one of them is called in a message": server.setting_noun != Server.setting_noun,
        "reserved: expected the settings that belong to the release, and what to write instead": bool(server.reserved),
        "reserved: expected no setting that is in settings too": not set(server.reserved) & set(server.settings),
        "graceful_setting: expected one of settings": server.graceful_setting in server.settings,
        "starts: expected what its journal says when it starts its workers": bool(server.starts),
    }
    return lacking + [f"{module}{words}" for words, is_so in said.items() if not is_so]


#: One failure lists what a server lacks; the rest is asked of those that are complete.
every_server = pytest.mark.parametrize("name", [name for name, server in SERVERS.items() if not lacks(name, server)])


@pytest.mark.parametrize("name", NAMES)
def test_it_lacks_nothing(name: str) -> None:
    lacking = lacks(name, SERVERS.get(name))
    assert not lacking, f"the server {name} is not complete:\n" + "\n".join(f"  - {one}" for one in lacking)


def test_what_a_server_lacks_that_was_only_begun(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/servers.md").write_text("waitress is not what stands between backticks\n", encoding="utf-8")
    of_role = [f"roles/waitress/{path}: missing" for path in FILES_OF_A_ROLE]
    docs, module = "docs/servers.md: expected a word on `waitress`", "plugins/plugin_utils/servers/waitress.py: "
    assert lacks("waitress", None, tmp_path) == [
        *of_role,
        docs,
        f"{module}missing, or without SERVER = Server(name='waitress', ...)",
    ]
    said = lacks("waitress", Server(name="waitres"), tmp_path)
    assert said[: len(of_role) + 1] == [*of_role, docs]
    assert [one.removeprefix(module).partition(":")[0] for one in said[len(of_role) + 1 :]] == [
        "name",
        "options",
        "settings",
        "setting_noun",
        "reserved",
        "graceful_setting",
        "starts",
    ]
    for path in ("defaults/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        (tmp_path / "roles/waitress" / path).parent.mkdir(parents=True)
        (tmp_path / "roles/waitress" / path).write_text("---\n", encoding="utf-8")
    again = lacks("waitress", None, tmp_path)
    assert "roles/waitress/defaults/main.yml: expected waitress_app: {}" in again
    assert "roles/waitress/meta/argument_specs.yml: expected the option waitress_app" in again
    tasks = "roles/waitress/tasks/main.yml: expected an import of install.yml, and the role app with waitress_app"
    assert tasks in again


def test_one_that_was_only_begun_stands_in_nobodys_way() -> None:
    begun = Server(name="waitress")
    assert begun.find_errors({"threads": 4}, "w") == ["w.threads: not a setting of it"]
    assert begun.drain_seconds({}) == 25
    assert begun.options.default == {}


def test_their_order() -> None:
    assert list(SERVERS)[:4] == ["gunicorn", "uwsgi", "mod_wsgi", "container"]
    assert APP["server"].default == next(iter(SERVERS))
    keys = list(APP)
    assert keys[keys.index("gunicorn") :][: len(SERVERS)] == list(SERVERS)


@every_server
def test_what_its_role_brings_to_a_host_is_tasks(name: str) -> None:
    # One that comes with the virtualenv alone needs nothing.
    assert isinstance(read(ROOT / "roles" / name / "tasks/install.yml") or [], list)


@every_server
def test_the_variables_of_its_role_are_given_to_templates_as_they_stand_there(name: str) -> None:
    defaults = read(ROOT / "roles" / name / "defaults/main.yml")
    assert [key for key, value in defaults.items() if "{{" in str(value)] == []


@every_server
def test_its_time_to_finish_is_a_setting_of_its_own(name: str) -> None:
    server = SERVERS[name]
    assert server.find_errors({server.graceful_setting: 90}, "s") == []
    for wrong in ("90", 1.5, True, None, -1):
        assert server.find_errors({server.graceful_setting: wrong}, "s") == [
            f"s.{server.graceful_setting}: expected a whole number of seconds"
        ]
    assert (server.drain_seconds({}), server.drain_seconds({server.graceful_setting: 90})) == (
        server.graceful_seconds,
        90,
    )
    assert server.drain_seconds({server.graceful_setting: 0}) == 0


@every_server
def test_it_refuses_what_it_does_not_know_by_its_path(name: str) -> None:
    assert SERVERS[name].find_errors({}, "s") == []
    (said,) = SERVERS[name].find_errors({"no-such-setting-at-all": 1}, "apps[0].s")
    assert said.startswith("apps[0].s.no-such-setting-at-all: not a")
