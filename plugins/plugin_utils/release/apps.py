# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Split an app's spec into what may be shown and what must not be."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.flaskops.server.plugins.module_utils.host.urls import without_credentials
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import SpecError, resolve_one


def strip_tags(value: Any) -> Any:
    """Return a value of the inventory without Ansible's tags and lazy containers."""
    return json.loads(json.dumps(value))


def split_secrets(raw: Any) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Check one app and remove its secrets.

    :returns: the spec with defaults and without secrets, and what was removed: ``secrets``, and of ``python`` the URLs
        with credentials.
    :raises AnsibleActionFail: with every error.
    """
    try:
        app = resolve_one(strip_tags(raw), "app")
    except SpecError as error:
        raise AnsibleActionFail(str(error)) from error
    sensitive: dict[str, dict[str, str]] = {"secrets": app.pop("secrets"), "python": {}}
    for key in ("index_url", "find_links"):
        url = app["python"][key] or ""
        if without_credentials(url) != url:
            sensitive["python"][key] = app["python"].pop(key)
    return app, sensitive
