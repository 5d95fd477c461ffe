# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check the public interface ``flask_apps`` and fill in every default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import APP
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.rules import RULES
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import (
    Schema,
    SchemaError,
    check,
    check_list,
    used_twice,
)

SCHEMA = Schema(APP, rules=RULES)


class SpecError(SchemaError):
    """The inventory has errors."""

    where = "the inventory"


def resolve(apps: Any, path: str = "flask_apps") -> list[dict[str, Any]]:
    """Check the apps of a host and fill in every default.

    :raises SpecError: with all errors of all apps.
    """
    checked, errors = check_list(SCHEMA, apps, path, "apps", _find_conflicts)
    if errors:
        raise SpecError(errors)
    return [_normalize(app) for app in checked]


def resolve_one(app: Any, path: str) -> dict[str, Any]:
    """Check a single app, as the app-level roles take it.

    :raises SpecError: with all errors.
    """
    checked, errors = check(SCHEMA, app, path)
    if errors:
        raise SpecError(errors)
    return _normalize(checked)


def _find_conflicts(apps: Sequence[Mapping[str, Any]], path: str) -> list[str]:
    errors = [
        f"{path}[{index}].{where}: already used by {path}[{first}]"
        for index, where, first in used_twice(map(_list_uses, apps))
    ]
    defaults = [index for index, app in enumerate(apps) if app.get("domains") == []]
    errors += [
        f"{path}[{index}].domains: missing, but {path}[{defaults[0]}] has none either, and a host has one default vhost"
        for index in defaults[1:]
    ]
    return errors


def _list_uses(app: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what only one app of a host may use."""
    if isinstance(app.get("name"), str):
        yield "name", "name", app["name"].lower()
    domains = app.get("domains")
    for position, domain in enumerate(domains if isinstance(domains, list) else []):
        if isinstance(domain, str):
            yield "domain", f"domains[{position}]", domain.lower()


def _normalize(app: dict[str, Any]) -> dict[str, Any]:
    """Turn environment variables into text, as a process sees them, and drop unset sources."""
    for key in ("env", "secrets"):
        app[key] = {name: as_text(value) for name, value in app[key].items()}
    app["source"] = {key: value for key, value in app["source"].items() if value not in (None, [])}
    return app


def as_text(value: Any) -> str:
    """Return a YAML scalar as an environment variable holds it: booleans as ``true`` and ``false``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
