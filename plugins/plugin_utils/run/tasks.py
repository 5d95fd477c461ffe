# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every action plugin checks first: that Ansible is new enough, and that the task has only known options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.release import __version__ as core_version
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import nearest

#: The oldest ansible-core that is tested; meta/runtime.yml says the same.
OLDEST_CORE = (2, 19)


def check_core(version: str = core_version) -> str:
    """Return which ansible-core is needed and how to get it if this one is too old; otherwise an empty text."""
    current = tuple(int(part) for part in version.split(".")[:2])
    if current >= OLDEST_CORE:
        return ""
    oldest = ".".join(str(part) for part in OLDEST_CORE)
    return (
        f"flaskops.server needs ansible-core {oldest} or newer on the machine that runs the playbook, and this is"
        f" {version}. Nothing was touched. Debian 13's package ansible-core is new enough; elsewhere:"
        f" python3 -m venv ansible && ansible/bin/pip install 'ansible-core>={oldest}'"
    )


def require_core(version: str = core_version) -> None:
    """Refuse an ansible-core that is too old with a message instead of a traceback.

    :raises AnsibleActionFail: with :func:`check_core`.
    """
    if wrong := check_core(version):
        raise AnsibleActionFail(wrong)


def refuse_unknown(arguments: Mapping[str, Any], known: Sequence[str], task: str) -> None:
    """Refuse options of a task that its plugin does not know: a misspelt one would be ignored.

    :param task: the name of the plugin, for the message.
    :raises AnsibleActionFail: with every unknown option and the nearest known one.
    """
    wrong = [f"{name}: unknown option of {task}{nearest(name, known)}" for name in arguments if name not in known]
    if wrong:
        raise AnsibleActionFail("Nothing was done:\n" + "\n".join(f"  - {line}" for line in wrong))
