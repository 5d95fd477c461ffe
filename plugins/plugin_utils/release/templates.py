# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rendering the templates of the collection's roles on the controller."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible import template as ansible_template
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import container

ROLES = Path(__file__).resolve().parents[3] / "roles"


def render(templar: Any, template: Path, variables: Mapping[str, Any], search: Sequence[Path] = ()) -> str:
    """Render a template as ansible.builtin.template does, but without the indentation of blocks.

    :param templar: Ansible's own.
    :param variables: everything that the template sees.
    :param search: directories of templates for an ``include`` or ``import``, after the template's own and those above it.
    :raises AnsibleError: when the template fails.
    """
    above = [directory for directory in template.parents if "templates" in directory.parts]
    directories = [template.parent, *above, *search]
    renderer = templar.copy_with_new_env(
        searchpath=[str(path) for path in directories], available_variables=dict(variables)
    )
    rendered = renderer.template(
        # Not imported by name: an ansible-core that lacks it gets as far as being refused in words.
        ansible_template.trust_as_template(template.read_text(encoding="utf-8")),
        escape_backslashes=False,
        overrides={"trim_blocks": True, "lstrip_blocks": True},
    )
    return "" if rendered is None else str(rendered)


def render_tree(
    templar: Any, role: str, below: str, variables: Mapping[str, Any], search: Sequence[Path] = ()
) -> dict[str, str]:
    """Render every template in a directory of a role.

    :returns: the text by path, relative to the role's ``templates``, without ``.j2``.
    """
    templates = ROLES / role / "templates"
    return {
        str(path.relative_to(templates).with_suffix("")): render(templar, path, variables, search)
        for path in sorted((templates / below).rglob("*.j2"))
    }


def role_variables(templar: Any, role: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of an app-level role but for its app: the inventory's value, or the role's default."""
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    names = [name for name in defaults if name != f"{role}_app"]
    return {name: templar.template(variables[name]) if name in variables else defaults[name] for name in names}


def python_literal(value: Any) -> str:
    """Return a value of YAML as Python source."""
    return repr(json.loads(json.dumps(value)))


#: What the templates of a release can call; no filters, since nobody else needs them.
HELPERS: dict[str, Any] = {
    "python_literal": python_literal,
    "container_options": container.options,
    "slice_limits": container.slice_limits,
}
