# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rendering the templates of the collection's roles on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.loader import lookup_loader

ROLES = Path(__file__).resolve().parents[2] / "roles"


def render(action: Any, template: Path, variables: Mapping[str, Any], search: list[Path]) -> str:
    """Render one template with just these variables: what it says cannot depend on anything else of the inventory.

    :param action: the action plugin that asks (for its loader and templar).
    :param search: roles in whose ``templates`` an ``include`` is looked up.
    """
    lookup = lookup_loader.get("ansible.builtin.template", loader=action._loader, templar=action._templar)
    scope = {"ansible_search_path": [str(role) for role in search], **variables}
    return str(lookup.run([str(template)], variables=scope)[0])


def render_tree(action: Any, role: str, below: str, variables: Mapping[str, Any], search: list[Path]) -> dict[str, str]:
    """Render every template in a directory of a role.

    :returns: the text by path, relative to the role's ``templates``, without ``.j2``.
    """
    templates = ROLES / role / "templates"
    return {
        str(path.relative_to(templates).with_suffix("")): render(action, path, variables, search)
        for path in sorted((templates / below).rglob("*.j2"))
    }
