# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Choose the apps of a run: ``-e app=NAME[,NAME]``, checked against all hosts of the run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.keys import ALL


class ChoiceError(Exception):
    """The run has no app, or names one that does not exist; the message says what to type."""


class Fleet:
    """The apps of this host and, computed only if needed, those of all hosts of the play.

    :param variables: the task's variables.
    :param here: the names of this host's apps.
    """

    def __init__(self, variables: Mapping[str, Any], here: Sequence[str]) -> None:
        self._variables = variables
        self.here = list(here)

    @property
    def hosts(self) -> list[str]:
        return list(self._variables.get("ansible_play_hosts_all") or [])

    @property
    def is_elsewhere(self) -> bool:
        """Whether --limit excludes hosts that have apps."""
        groups: Mapping[str, Sequence[str]] = self._variables.get("groups") or {}
        others = set(groups.get("all") or ()) - set(self.hosts)
        return bool(self._variables.get("ansible_limit")) and any(
            self._variables_for(host).get("flask_apps") for host in others
        )

    @cached_property
    def names(self) -> list[str]:
        """The names of the apps of all hosts, each once."""
        found = dict.fromkeys(self.here)
        for host in self.hosts:
            apps = self._variables_for(host).get("flask_apps")
            for app in apps if isinstance(apps, (list, tuple)) else ():
                if isinstance(app, Mapping) and isinstance(app.get("name"), str):
                    found[str(app["name"])] = None
        return sorted(found)

    @property
    def misspelt(self) -> str | None:
        """The variable that may be a misspelt ``flask_apps``."""
        variables = {name for host in self.hosts for name in self._variables_for(host)}
        close = difflib.get_close_matches("flask_apps", variables - {"flask_apps"}, 1, 0.75)
        return close[0] if close else None

    def _variables_for(self, host: str) -> Mapping[str, Any]:
        of_all: Mapping[str, Mapping[str, Any]] = self._variables.get("hostvars") or {}
        return of_all.get(host) or {}


def choose(fleet: Fleet, only: Any, single: bool) -> list[str]:
    """Return the names of the apps of the run.

    :param only: names, as a list or separated by commas; None or nothing: every app.
    :param single: whether an app has to be named if there are several.
    :raises ChoiceError: when no host has an app, when a named one is on no host, or when one has to be named.
    """
    if not fleet.here and not fleet.names:
        if fleet.is_elsewhere:
            return []
        hint = f" They have {fleet.misspelt}: did you mean flask_apps?" if fleet.misspelt else ""
        raise ChoiceError(
            f"No app is defined for any host of this run ({', '.join(fleet.hosts)}): flask_apps is empty or not set."
            f"{hint} Nothing was touched."
        )
    if only is None:
        if single and len(fleet.names) > 1:
            raise ChoiceError(
                f"Several apps are on these hosts: {', '.join(fleet.names)}. Choose one with -e app={fleet.names[0]}, or all"
                f" of them with -e app={ALL}. Nothing was touched."
            )
        return fleet.here
    listed = [only] if isinstance(only, str) else only
    if not isinstance(listed, (list, tuple)) or not all(isinstance(item, str) for item in listed):
        listed = []
    names = [word.strip() for item in listed for word in item.split(",") if word.strip()]
    if not names:
        raise ChoiceError(
            "app: expected the name of an app, several names separated by commas, or all."
            f" Apps here: {', '.join(fleet.names)}. Nothing was touched."
        )
    if names == [ALL]:
        return fleet.here
    if not set(names) <= set(fleet.here):
        unknown = [name for name in names if name not in fleet.names]
        if unknown:
            hints = {name: difflib.get_close_matches(name, fleet.names, 1, 0.6) for name in unknown}
            listed_names = ", ".join(
                name + (f" (did you mean {hint[0]}?)" if hint else "") for name, hint in hints.items()
            )
            raise ChoiceError(
                f"No host of this run has an app of that name: {listed_names}. Apps here: {', '.join(fleet.names)}. "
                "Nothing was touched."
            )
    return names
