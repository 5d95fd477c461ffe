# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contract that every server keeps: what tells one from another, beside the templates of its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field, nearest

#: The key of a server that says nothing of it.
_UNSAID = Field("dict", "", default={})


def _takes_anything(name: str, value: Any) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Server:
    """All that is known of a server.

    A role of the same name holds the rest: ``tasks/install.yml`` (what a host needs for it), ``templates/service.conf.j2``
    (what its systemd instance needs), ``templates/serve/`` (its configuration) and, where one unit is not enough,
    ``templates/units/``.

    :param name: what ``server`` of an app says, and the app's key with the settings it passes through.
    :param options: that key.
    :param packages: requirements that a release's virtualenv needs, where the app does not bring them.
    :param runtime: what a release's code runs in, see ``runtimes.py``.
    :param settings: the settings that an app may pass through.
    :param one_setting: what a message calls one of them (``a setting of Gunicorn``).
    :param reserved: settings that belong to the release or to systemd, and what to write instead.
    :param hooks: settings whose value is a Python function.
    :param check_value: what is wrong with the value of a setting, given its name and the value.
    :param graceful_setting: the server's own setting of how long an instance may take to finish what is in flight.
    :param graceful_seconds: its default here.
    :param no_limits: resource limits of systemd that it cannot have, and a sentence on each.
    :param noise: what a line of its own begins with that ends a traceback and only says that something else went wrong.
    :param starts: what its journal says when it starts its workers.
    :param dies: what its journal says when a worker has died; empty where that is not always among its last lines.
    """

    name: str
    options: Field = _UNSAID
    packages: tuple[str, ...] = ()
    runtime: str = "virtualenv"
    settings: Sequence[str] = ()
    one_setting: str = "a setting of it"
    reserved: Mapping[str, str] = field(default_factory=dict)
    hooks: frozenset[str] = frozenset()
    check_value: Callable[[str, Any], str | None] = _takes_anything
    graceful_setting: str = ""
    graceful_seconds: int = 25
    no_limits: Mapping[str, str] = field(default_factory=dict)
    noise: tuple[str, ...] = ()
    starts: str = ""
    dies: str = ""

    def check_settings(self, settings: Mapping[str, Any], path: str) -> list[str]:
        """Return what is wrong with the settings an app passes through, one sentence each."""
        found = ((name, self._check_setting(name, value)) for name, value in settings.items())
        return [f"{path}.{name}: {wrong}" for name, wrong in found if wrong]

    def _check_setting(self, name: str, value: Any) -> str | None:
        if name in self.reserved:
            return f"cannot be set here, {self.reserved[name]}"
        if name in self.hooks:
            return "a Python function, which YAML cannot express"
        if name not in self.settings:
            return f"not {self.one_setting}{nearest(name, self.settings)}"
        if name == self.graceful_setting:
            # systemd and the drain wait for as long.
            return None if type(value) is int and value >= 0 else "expected a whole number of seconds"
        return self.check_value(name, value)

    def drain_seconds(self, settings: Mapping[str, Any]) -> int:
        """Return how long an instance may take to finish what is in flight."""
        return int(settings.get(self.graceful_setting, self.graceful_seconds))
