# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of ``release_info``: finds the app, fills in its defaults and keeps its secrets at home."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import split_secrets
from ansible_collections.flaskops.server.plugins.plugin_utils.run.apps import find_app
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import refuse_unknown, require_core

OPTIONS = {"app": {"type": "raw", "required": True}, "deploys": {"type": "int", "default": 5}}


class ActionModule(ActionBase):
    """See the module's documentation."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        require_core()
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        refuse_unknown(self._task.args, tuple(OPTIONS), "release_info")
        _unused, options = self.validate_argument_spec(OPTIONS)
        named = find_app(self._task.args["app"], lambda: self._templar.template(variables.get("flask_apps", [])))
        app, _sensitive = split_secrets(named)
        found: dict[str, Any] = self._execute_module(
            "flaskops.server.release_info",
            {"app": app, "deploys": options["deploys"]},
            task_vars=variables,
            wrap_async=bool(self._task.async_val),
        )
        found.pop("invocation", None)
        return {**result, **found}
