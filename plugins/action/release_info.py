# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of ``release_info``: fills in the app's defaults and keeps its secrets at home."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import public_app
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import refuse_unknown, require_core


class ActionModule(ActionBase):
    """See the module's documentation."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        require_core()
        result: dict[str, Any] = super().run(tmp, task_vars)
        refuse_unknown(self._task.args, ("app", "deploys"), "release_info")
        app, _hidden = public_app(self._task.args.get("app"))
        arguments = {**self._task.args, "app": app}
        found: dict[str, Any] = self._execute_module("flaskops.server.release_info", arguments, task_vars=task_vars)
        found.pop("invocation", None)
        return {**result, **found}
