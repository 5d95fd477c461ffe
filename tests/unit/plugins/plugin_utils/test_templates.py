# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rendering a server's files on the controller: complete, and from nothing but what is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.flaskops.server.plugins.module_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.module_utils.spec import resolve_one
from ansible_collections.flaskops.server.plugins.plugin_utils.templates import ROLES, render, render_tree

HOME = "/srv/shop/releases/%i"
SEARCH = [ROLES / "app" / "templates"]


@pytest.fixture
def templar() -> Templar:
    """Ansible's, in an inventory with variables of its own."""
    return Templar(DataLoader(), {"leak": "from the inventory", "app": "no app"})


def scope(**change: Any) -> dict[str, Any]:
    app = resolve_one({"name": "shop", "source": {"path": "."}, "wsgi": "shop:create_app(a='b')", **change}, "app")
    return {"app": app, "home": HOME, "server": SERVERS["gunicorn"]}


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
