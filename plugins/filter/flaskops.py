# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for the collection's templates."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host.front import NOT_REACHED
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import container


def python_literal(value: Any) -> str:
    """Return a value of YAML as Python source."""
    return repr(json.loads(json.dumps(value)))


def first_with_app(hosts: Sequence[str], hostvars: Mapping[str, Any], name: str) -> str | None:
    """Return the first of the hosts on which a release of an app waits to go live."""
    for host in hosts:
        results = hostvars[host].get("flask_proved", {}).get("results", [])
        if any(result.get("pending") and result.get("item") == name for result in results):
            return host
    return None


def first_to_build(hosts: Sequence[str], hostvars: Mapping[str, Any], name: str) -> str | None:
    """Return the first of the hosts that has an app whose image is built."""
    return next((host for host in hosts if name in hostvars[host].get("flask_checked", {}).get("images", [])), None)


def report(proved: Mapping[str, Any], live: Mapping[str, Any], nginx_follows: bool = False) -> list[str]:
    """Return a few lines for each app of a host: what was done, how large it runs, and what else there is to know.

    :param nginx_follows: whether nginx is configured after this, so that it need not be said that it leads nowhere yet.
    """
    switched = {result["item"]["item"]: result for result in live.get("results", []) if "item" in result}
    lines = []
    for result in proved.get("results", []):
        name = result.get("item", "")
        last = switched.get(name) or result
        lines.append(f"{name}: {last.get('msg') or result.get('msg', '')}")
        if result.get("size"):
            lines.append(f"{name}: {result['size']}")
        notes = dict.fromkeys([*result.get("notes", []), *last.get("notes", [])])
        if last.get("reachable") is False and not nginx_follows:
            notes[NOT_REACHED] = None
        lines += [f"{name}: {note}" for note in notes]
    return lines


def registry_logins(logins: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return logins as container engines read them (containers-auth.json(5))."""
    return {
        "auths": {
            registry: {"auth": base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()}
            for registry, login in logins.items()
        }
    }


class FilterModule:
    """The filters, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "python_literal": python_literal,
            "first_with_app": first_with_app,
            "first_to_build": first_to_build,
            "report": report,
            "container_options": container.options,
            "slice_limits": container.slice_limits,
            "registry_logins": registry_logins,
        }
