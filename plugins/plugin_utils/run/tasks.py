# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every action plugin asks first: is this Ansible new enough, and does the task say only what it can say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.release import __version__ as core_version
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import nearest

#: The oldest ansible-core that is tested; meta/runtime.yml says the same.
OLDEST_CORE = (2, 19)


def core_mistake(version: str = core_version) -> str:
    """Say which ansible-core is needed and how to get it, where this one is too old; nothing where it is not."""
    found = tuple(int(part) for part in version.split(".")[:2])
    if found >= OLDEST_CORE:
        return ""
    oldest = ".".join(str(part) for part in OLDEST_CORE)
    return (
        f"flaskops.server needs ansible-core {oldest} or newer on the machine that runs the playbook, and this is"
        f" {version}. Nothing was touched. Debian 13's package ansible-core is new enough; elsewhere:"
        f" python3 -m venv ansible && ansible/bin/pip install 'ansible-core>={oldest}'"
    )


def require_core(version: str = core_version) -> None:
    """Refuse an ansible-core that is too old, in words: what fails there otherwise fails with a traceback.

    :raises AnsibleActionFail: with :func:`core_mistake`.
    """
    if wrong := core_mistake(version):
        raise AnsibleActionFail(wrong)


def refuse_unknown(arguments: Mapping[str, Any], known: Sequence[str], task: str) -> None:
    """Refuse options of a task that its plugin does not know: one that is misspelt would be passed over.

    :param task: the name of the plugin, for the message.
    :raises AnsibleActionFail: with every unknown option and the nearest known one.
    """
    wrong = [f"{name}: unknown option of {task}{nearest(name, known)}" for name in arguments if name not in known]
    if wrong:
        raise AnsibleActionFail("Nothing was done:\n" + "\n".join(f"  - {line}" for line in wrong))
