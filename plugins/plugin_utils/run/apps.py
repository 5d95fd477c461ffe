# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which app a task is about, and what the steps before left for it to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible_collections.flaskops.server.plugins.module_utils.host.front import NOT_REACHED
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import nearest


def find_app(app: Any, apps: Callable[[], Any]) -> Any:
    """Return the app that is meant by its name; one that is a dict is returned as it is.

    :param apps: returns the apps of the host; called for a name only.
    :raises AnsibleActionFail: when none has that name.
    """
    if not isinstance(app, str):
        return app
    existing = apps()
    listed = existing if isinstance(existing, (list, tuple)) else ()
    named = {str(one["name"]): one for one in listed if isinstance(one, Mapping) and isinstance(one.get("name"), str)}
    if app not in named:
        raise AnsibleActionFail(
            f"app: this host has no app {app}{nearest(app, list(named)) if named else '; it has none'}"
        )
    return named[app]


def registered_result(registered: Any, name: str) -> Mapping[str, Any]:
    """Return what a task or loop that verified releases says of an app; nothing when it did not come to that app."""
    if not isinstance(registered, Mapping):
        return {}
    results = registered.get("results", [registered])
    return next((result for result in results if isinstance(result, Mapping) and result.get("app") == name), {})


def has_work(registered: Any, name: str) -> bool:
    """Whether a host has something left to do for an app: a release that waits to go live, or an image to build.

    :param registered: what verified the releases, or checked the apps.
    """
    if isinstance(registered, Mapping) and "images" in registered:
        return name in registered["images"]
    return bool(registered_result(registered, name).get("pending"))


def is_first(variables: Mapping[str, Any], register: str, name: str) -> bool:
    """Whether this host is the first of the play with something left to do for an app.

    :param register: the name of the variable that says so.
    """
    hostvars = variables.get("hostvars") or {}
    for host in variables.get("ansible_play_hosts") or ():
        if has_work((hostvars.get(host) or {}).get(register), name):
            return bool(host == variables.get("inventory_hostname"))
    return False


def summarize(
    name: str, verified: Mapping[str, Any], activated: Mapping[str, Any], nginx_follows: bool = False
) -> list[str]:
    """Return what a deploy did with an app: a line for what is live, one for its size, one for each note.

    :param nginx_follows: whether nginx is configured after this, so that no site leads to the app yet.
    """
    last = activated or verified
    lines = [str(last.get("msg") or verified.get("msg", "")).removeprefix(f"{name}: ")]
    lines += [verified["size"]] if verified.get("size") else []
    notes = [*verified.get("notes", []), *activated.get("notes", [])]
    if last.get("reachable") is False and not nginx_follows:
        notes.append(NOT_REACHED)
    return [f"{name}: {line}" for line in [*lines, *dict.fromkeys(notes)]]
