# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contract of a server: everything that differs from one to another, besides the templates of its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field, nearest

#: The key of a server that does not define one.
_NO_OPTIONS = Field("dict", "", default={})


def _accept_any(name: str, value: Any) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that can run an app.

    A role of the same name holds the rest: ``tasks/install.yml`` (the host's share), ``templates/service.conf.j2``
    (the systemd settings of an instance), ``templates/serve/`` (its configuration) and, if one unit is not enough,
    ``templates/units/``.

    :param name: the value of an app's ``server``, and the app's key with the settings that it passes through.
    :param options: the field of that key.
    :param packages: requirements to install into a release's virtualenv, unless the app has its own.
    :param runtime: what a release's code runs in, see ``runtimes.py``.
    :param settings: the settings that an app may pass through.
    :param setting_noun: what messages call one of them (``a setting of Gunicorn``).
    :param reserved: settings that the release or systemd controls, with the reason or what to set instead.
    :param hooks: settings whose value is a Python function.
    :param check_value: takes the name and the value of a setting, and returns what is wrong with the value, or None.
    :param graceful_setting: the server's own setting for how long an instance may take to finish open requests.
    :param graceful_seconds: its default here.
    :param no_limits: resource limits of systemd that have no effect on it, with a reason for each.
    :param noise: the beginnings of its own log lines that follow a traceback and add nothing to it.
    :param starts: the words that it logs when it starts its workers.
    :param dies: the words that it logs when a worker has died; empty if they are not always among its last lines.
    """

    name: str
    options: Field = _NO_OPTIONS
    packages: tuple[str, ...] = ()
    runtime: str = "virtualenv"
    settings: Sequence[str] = ()
    setting_noun: str = "a setting of it"
    reserved: Mapping[str, str] = field(default_factory=dict)
    hooks: frozenset[str] = frozenset()
    check_value: Callable[[str, Any], str | None] = _accept_any
    graceful_setting: str = ""
    graceful_seconds: int = 25
    no_limits: Mapping[str, str] = field(default_factory=dict)
    noise: tuple[str, ...] = ()
    starts: str = ""
    dies: str = ""

    def find_errors(self, settings: Mapping[str, Any], path: str) -> list[str]:
        """Return what is wrong with the settings that an app passes through, with the path of each."""
        found = ((name, self._find_error(name, value)) for name, value in settings.items())
        return [f"{path}.{name}: {wrong}" for name, wrong in found if wrong]

    def _find_error(self, name: str, value: Any) -> str | None:
        if name in self.reserved:
            return f"cannot be set here, {self.reserved[name]}"
        if name in self.hooks:
            return "a Python function, which YAML cannot express"
        if name not in self.settings:
            return f"not {self.setting_noun}{nearest(name, self.settings)}"
        if name == self.graceful_setting:
            # systemd and the drain wait this long too.
            return None if self._is_seconds(value) else "expected a whole number of seconds"
        return self.check_value(name, value)

    @staticmethod
    def _is_seconds(value: Any) -> bool:
        # In Python true and false are numbers too.
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    def drain_seconds(self, settings: Mapping[str, Any]) -> int:
        """Return how long an instance may take to finish open requests, in seconds."""
        return int(settings.get(self.graceful_setting, self.graceful_seconds))
