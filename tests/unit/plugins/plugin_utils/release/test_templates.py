# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rendering a server's files on the controller: complete, and from nothing but what is given."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import environment_file
from ansible_collections.flaskops.server.plugins.plugin_utils.release.templates import (
    HELPERS,
    ROLES,
    python_literal,
    render,
    render_tree,
    role_variables,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import resolve_one

HOME = "/srv/shop/releases/%i"
SEARCH = [ROLES / "app" / "templates"]


@pytest.fixture
def templar() -> Templar:
    """Ansible's, in an inventory with variables of its own."""
    return Templar(DataLoader(), {"leak": "from the inventory", "app": "no app"})


def scope(**change: Any) -> dict[str, Any]:
    app = resolve_one({"name": "shop", "source": {"path": "."}, "wsgi": "shop:create_app(a='b')", **change}, "app")
    return {"app": app, "home": HOME, "server": SERVERS["gunicorn"], **HELPERS}


def test_the_configuration_is_python_that_says_what_the_app_says(templar: Templar) -> None:
    settings = {"timeout": 5, "raw_env": ["A='x'\n"], "preload_app": True, "statsd_host": None}
    files = render_tree(templar, "gunicorn", "serve", scope(gunicorn=settings), SEARCH)
    assert set(files) == {"serve/gunicorn.conf.py"}
    # Without what comes from the server's and the app's packages.
    wanted = [line for line in files["serve/gunicorn.conf.py"].splitlines() if " = " in line and line[0].isalpha()]
    said: dict[str, Any] = {}
    exec("\n".join(line for line in wanted if "environ" not in line), said)
    assert said["wsgi_app"] == "flaskops_wsgi"
    assert {name: said[name] for name in settings} == settings


def test_the_units(templar: Templar) -> None:
    app = {
        "limits": {"MemoryMax": "1G"},
        "unit": {"BindPaths": ["/a", "/b"], "Nice": 5},
        "gunicorn": {"graceful_timeout": 40},
    }
    text = render(templar, ROLES / "gunicorn/templates/service.conf.j2", scope(**app), SEARCH)
    lines = text.splitlines()
    assert {
        "MemoryMax=1G",
        "BindPaths=/a",
        "BindPaths=/b",
        "Nice=5",
        "TimeoutStopSec=50",
        "ProtectSystem=strict",
    } <= set(lines)
    # What the app says comes last: systemd takes the last word.
    assert lines.index("MemoryMax=1G") > lines.index("TasksMax=1024") > lines.index("ProtectSystem=strict")
    assert f"ExecStart={HOME}/venv/bin/python -m gunicorn" in text
    for name in ("app@.service", "app.service"):
        unit = render(templar, ROLES / "app/templates/units" / f"{name}.j2", scope(), SEARCH)
        assert "[Service]" in unit and "{{" not in unit and "shop" in unit


def test_nothing_else_of_the_inventory_gets_in(templar: Templar, tmp_path: Path) -> None:
    template = tmp_path / "x.j2"
    template.write_text("{{ leak }}")
    with pytest.raises(AnsibleError, match="leak"):
        render(templar, template, scope(), SEARCH)
    template.write_text("{{ app.name }}")
    assert render(templar, template, scope(), SEARCH) == "shop"


# -- the variables of a role -------------------------------------------------------------------------------------------


def test_a_role_has_its_defaults_but_for_its_app(templar: Templar) -> None:
    assert role_variables(templar, "gunicorn", {"gunicorn_app": {"name": "shop"}}) == {}
    found = role_variables(templar, "container", {})
    assert (found["container_engine"], found["container_registry_logins"]) == ("podman", {})
    assert "container_app" not in found


def test_the_inventorys_value_wins_and_nothing_else_of_it_is_there(templar: Templar) -> None:
    given = {"container_engine": "docker", "container_registry": "", "container_unknown": 1, "leak": 1}
    found = role_variables(templar, "container", given)
    assert found["container_engine"] == "docker"
    assert set(found) == set(role_variables(templar, "container", {}))


def test_a_value_of_the_inventory_may_be_a_template() -> None:
    secret = trust_as_template("{{ vault_registry }}")
    given = {"container_registry_logins": {"registry.example.org": {"username": "deploy", "password": secret}}}
    templar = Templar(DataLoader(), {**given, "vault_registry": "hunter2"})
    found = role_variables(templar, "container", given)
    assert found["container_registry_logins"]["registry.example.org"]["password"] == "hunter2"


# -- every server ------------------------------------------------------------------------------------------------------

SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {server.graceful_setting: 40} for name, server in SERVERS.items()},
    "gunicorn": {"timeout": 5, "graceful_timeout": 40},
    "uwsgi": {"harakiri": 5, "worker-reload-mercy": 40, "env": ["A=1", "B=2"], "lazy-apps": True},
    "mod_wsgi": {"request-timeout": 5, "GracefulShutdownTimeout": 40, "ErrorDocument": ["503 a", "404 b"]},
    "container": {"memory-swappiness": 5, "stop-timeout": 40, "dns": ["192.0.2.1", "192.0.2.2"], "init": True},
}
MORE: dict[str, Any] = {
    "limits": {"MemoryMax": "1G", "LimitNOFILE": 4096},
    "unit": {"BindPaths": ["/a", "/b"]},
    "env": {"GREETING": "it's"},
    "shared_paths": ["instance", "two words"],
    "static": [{"url": "/static/", "path": "static"}],
    "python": {"require_hashes": True},
    "checks": {"pip_check": False},
}


def rendered(templar: Templar, server: str, variables: dict[str, Any] | None = None, **app: Any) -> dict[str, str]:
    """Return all that the action plugin renders for an app of a server."""
    spec = resolve_one({"name": "shop", "source": {"path": "."}, "wsgi": "shop:app", "server": server, **app}, "app")
    of_role = role_variables(templar, server, variables or {})
    scope = {"app": spec, "home": HOME, "server": SERVERS[server], **of_role, **HELPERS}
    search = [ROLES / "app" / "templates", ROLES]
    files = {"service.conf": render(templar, ROLES / server / "templates/service.conf.j2", scope, search)}
    for role in ("app", server):
        for below in ("serve", "units"):
            files |= render_tree(templar, role, below, scope, search)
    return files


@pytest.mark.parametrize("app", [{}, MORE], ids=["plain", "with more"])
@pytest.mark.parametrize("server", SERVERS)
def test_every_server_renders_for_every_app(templar: Templar, server: str, app: dict[str, Any]) -> None:
    files = rendered(templar, server, **app, **({server: SETTINGS[server]} if app else {}))
    for path, text in files.items():
        # Go templates and shell have braces too, Jinja's statements have no other meaning.
        assert "{%" not in text and "{{" not in text, path
        assert text.strip(), path
        # As a value: httpd has a word of the same name.
        assert path.endswith(".py") or not re.search(r"=None|None$(?<!AllowOverride None)", text, re.MULTILINE), path
    conf = files["service.conf"].splitlines()
    assert [line.partition("=")[2] for line in conf if line.startswith("TimeoutStopSec=")] == ["50" if app else "35"]
    # What the app says comes last: systemd takes the last word.
    assert conf[-1] == ("BindPaths=/b" if app else "TasksMax=1024")
    assert "serve/flaskops_wsgi.py" in files
    # A killed worker is replaced, where the app's unit does not say otherwise.
    assert conf.count("OOMPolicy=continue") == 1
    # A release's id is a digest of these texts: %i is for systemd, and nothing else knows what it means.
    assert [path for path, text in files.items() if path.startswith("serve/") and "releases/%i" in text] == []


@pytest.mark.parametrize("server", SERVERS)
def test_settings_of_an_app_reach_its_server(templar: Templar, server: str) -> None:
    plain, set_up = rendered(templar, server), rendered(templar, server, **{server: SETTINGS[server]})
    assert {path for path in plain if plain[path] != set_up[path]} - {"service.conf"} != set()
    # Settings of another server are kept for a move to it, and change nothing; an image that is built here runs Gunicorn.
    own = {server, "gunicorn"} if server == "container" else {server}
    others: dict[str, Any] = {name: settings for name, settings in SETTINGS.items() if name not in own}
    assert rendered(templar, server, **others) == plain


@pytest.mark.parametrize("server", SERVERS)
def test_what_happens_to_an_instance_out_of_memory_is_the_apps_to_say(templar: Templar, server: str) -> None:
    conf = rendered(templar, server, limits={"MemoryMax": "1G"}, unit={"OOMPolicy": "stop"})[
        "service.conf"
    ].splitlines()
    said = [line for line in conf if line.startswith(("OOMPolicy=", "MemoryMax="))]
    assert said == ["OOMPolicy=continue", "MemoryMax=1G", "OOMPolicy=stop"]


@pytest.mark.parametrize(
    ("settings", "said"), [({}, ["true"]), ({"wsgi-disable-file-wrapper": False}, ["true", "false"])]
)
def test_uwsgi_sends_files_piece_by_piece_unless_told_otherwise(
    templar: Templar, settings: dict[str, Any], said: list[str]
) -> None:
    text = rendered(templar, "uwsgi", uwsgi=settings)["serve/uwsgi.ini"]
    assert re.findall(r"^wsgi-disable-file-wrapper = (.*)$", text, re.MULTILINE) == said


@pytest.mark.parametrize("server", SERVERS)
def test_the_same_app_is_rendered_the_same_again(templar: Templar, server: str) -> None:
    assert rendered(templar, server, **MORE) == rendered(templar, server, **MORE)


@pytest.mark.parametrize("server", SERVERS)
def test_what_is_python_compiles(templar: Templar, server: str) -> None:
    files = rendered(templar, server, **{server: SETTINGS[server]})
    for path in [path for path in files if path.endswith(".py")]:
        compile(files[path], path, "exec")


# -- the container -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_an_image_of_a_registry_needs_no_callable(templar: Templar, engine: str) -> None:
    image: dict[str, Any] = {"source": {"image": "registry.example.org/shop:1"}, "wsgi": None}
    files = rendered(templar, "container", {"container_engine": engine}, **image)
    assert f'"engine": "{engine}"' in files["serve/container.json"]
    assert f"{engine}.s" in files["service.conf"]


RUN = """\
#!/bin/sh
printf '%s\\n' "$@" >"$0.said"
cat >"$0.in"
"""


@pytest.mark.parametrize("engine", ["podman", "docker"])
@pytest.mark.parametrize("command", [[], ["flask", "db upgrade"]])
def test_the_script_runs_the_image_with_the_settings_of_the_app(
    templar: Templar, tmp_path: Path, command: list[str], engine: str
) -> None:
    files = rendered(
        templar, "container", {"container_engine": engine}, **MORE, container={"label": "two words; $HOME"}
    )
    release, tools = tmp_path / "abc", tmp_path / "bin"
    for path, text in {
        "serve/run": files["serve/run"],
        "serve/image": "image=localhost/flaskops/shop:abc\ncommand='python -m '\\''my shop'\\'\ndirectory='/my app'\n",
        "secrets.env": 'KEY="value"\n',
    }.items():
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_text(text)
    tools.mkdir()
    for name, text in {engine: RUN, "id": "#!/bin/sh\necho 7\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    script = ["/bin/sh", str(release / "serve/run"), "shop-abc", *command]
    subprocess.run(script, env={"PATH": f"{tools}:/usr/bin:/bin"}, check=True)
    said = (tools / f"{engine}.said").read_text().splitlines()
    assert said[: said.index("run") + 1] == (["--remote", "run"] if engine == "podman" else ["run"])
    assert {"--name=shop-abc", "--user=7:7", "--read-only", "--label=two words; $HOME", "--ulimit=nofile=4096"} <= set(
        said
    )
    assert "--cgroup-parent=shop-abc.slice" in said
    assert "--volume=/srv/shop/shared/two words:/my app/two words" in said
    assert f"--volume={release}/serve:/run/serve:ro" in said
    begin = said.index("localhost/flaskops/shop:abc")
    assert said[begin - 1 :] == [
        "--entrypoint=/bin/sh",
        "localhost/flaskops/shop:abc",
        "/run/serve/enter",
        *(command or ["python", "-m", "my shop"]),
    ]
    # Secrets come on standard input, and on no command line.
    assert (tools / f"{engine}.in").read_text() == 'KEY="value"\n'
    assert "value" not in "".join(said)


def test_settings_and_secrets_become_the_environment_of_the_command(templar: Templar, tmp_path: Path) -> None:
    text = rendered(templar, "container")["serve/enter"]
    nasty = 'two\nlines $HOME `id` \\ "quoted" it\'s'
    (tmp_path / "env").write_text(environment_file({"GREETING": nasty}))
    (tmp_path / "enter").write_text(text.replace("/run/env", str(tmp_path / "env")))
    ask = (
        "import os, sys; print([os.environ['GREETING'], os.environ['KEY'], sys.argv[1], sys.stdin.read(), os.umask(0)])"
    )
    done = subprocess.run(
        ["/bin/sh", str(tmp_path / "enter"), sys.executable, "-c", ask, "two words"],
        input=environment_file({"KEY": nasty}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(done.stdout) == [nasty, nasty, "two words", "", 0o007]


# -- what templates can call -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 5, 1.5, "a'b\"c\n{{ x }}", ["a", None], {"a": [True, {"b": "ü"}]}, "'''", "\\", ("a",)],
)
def test_python_literal(value: Any) -> None:
    class Tagged(str):
        __slots__ = ()

        def __repr__(self) -> str:
            return "no source"

    assert ast.literal_eval(python_literal(value)) == (list(value) if isinstance(value, tuple) else value)
    assert python_literal(Tagged("x")) == "'x'"


def test_logins_are_written_as_engines_read_them(templar: Templar) -> None:
    logins = {
        "registry.example.org:5000": {"username": "ann", "password": "a:b"},
        "other.example.org": {"username": 'b"ob', "password": "ü"},
    }
    template = ROLES / "container/templates/etc/flaskops/registry/config.json.j2"
    # printf ann:a:b | base64
    assert json.loads(render(templar, template, {"container_registry_logins": logins})) == {
        "auths": {"registry.example.org:5000": {"auth": "YW5uOmE6Yg=="}, "other.example.org": {"auth": "YiJvYjrDvA=="}}
    }
