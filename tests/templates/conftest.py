# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Renders a role's templates through Ansible's own Templar, with the role's own defaults. No host is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.flaskops.server.plugins.plugin_utils.release.templates import HELPERS
from ansible_collections.flaskops.server.plugins.plugin_utils.release.templates import render as render_template

ROLES = Path(__file__).resolve().parents[2] / "roles"

Render = Callable[..., str]


def role_variables(role: str) -> dict[str, Any]:
    """Return the defaults and the internal variables of a role, templates in them included."""
    loader = DataLoader()
    variables: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        path = ROLES / role / part / "main.yml"
        if path.is_file():
            # As Ansible reads a file of variables: trusted to hold templates.
            variables |= loader.load_from_file(str(path), trusted_as_template=True) or {}
    return variables


@pytest.fixture
def render() -> Render:
    """Return a function: ``render("nginx", "nginx.conf.j2", sites=[...])``."""

    def function(role: str, template: str, **variables: Any) -> str:
        loader = DataLoader()
        path = ROLES / role / "templates" / template
        everything = role_variables(role) | HELPERS | variables
        templar = Templar(loader=loader, variables=everything)
        return render_template(templar, path, everything)

    return function
