# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have Ansible's own module install packages, and ask it only where some are missing."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import refuse_unknown, require_core

OPTIONS = {
    "names": {"type": "list", "elements": "str", "required": True},
    "cache_valid_time": {"type": "int", "default": 86400},
}

#: Which packages are there, and which of all are there only for the sake of others (apt-mark reads the lists for that).
LOOK = (
    r"dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' -- %s 2>/dev/null;"
    r""" awk -v RS= '/\nAuto-Installed: 1/ { print "auto", $2 }' /var/lib/apt/extended_states 2>/dev/null; true"""
)

#: apt takes the age of the package lists from their directory, which an image can have made today and left empty; and
#: lists that are good by age can name a file that the mirror has replaced.
STALE = ("No package matching", "404", "Failed to fetch")

#: What apt cannot foretell in check mode: there are no lists, or not even what reads them.
UNFORETOLD = ("No package matching", "must be installed to use check mode")


def missing(names: list[str], looked: str) -> list[str]:
    """Return the names that are no installed package, or one that goes when another one goes.

    A name that says more, such as a version, is for apt to judge and counts as missing.

    :param looked: what :data:`LOOK` wrote.
    """
    said = {tuple(line.split(" ", 1)) for line in looked.splitlines()}
    return [name for name in names if ("installed", name) not in said or ("auto", name) in said]


class ActionModule(ActionBase):
    """See the module's documentation."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        require_core()
        result: dict[str, Any] = super().run(tmp, task_vars)
        refuse_unknown(self._task.args, tuple(OPTIONS), "packages")
        _unused, arguments = self.validate_argument_spec(OPTIONS)
        names: list[str] = arguments["names"]
        looked = self._low_level_execute_command(LOOK % shlex.join(names))
        result.update(changed=False, missing=missing(names, looked["stdout"]))
        if not result["missing"]:
            return result
        apt = {"name": names, "install_recommends": False}
        made = self._apt({**apt, "cache_valid_time": arguments["cache_valid_time"]}, task_vars)
        if self._failed_with(made, UNFORETOLD) and self._task.check_mode:
            return {**result, "changed": True, "msg": f"Would be installed: {', '.join(result['missing'])}"}
        if self._failed_with(made, STALE):
            made = self._apt({**apt, "update_cache": True}, task_vars)
        return {**result, **made}

    def _apt(self, arguments: dict[str, Any], variables: dict[str, Any] | None) -> dict[str, Any]:
        made: dict[str, Any] = self._execute_module("ansible.builtin.apt", arguments, task_vars=variables)
        return made

    @staticmethod
    def _failed_with(made: dict[str, Any], words: tuple[str, ...]) -> bool:
        return bool(made.get("failed")) and any(word in str(made.get("msg")) for word in words)
