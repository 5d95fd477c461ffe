# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check ``flask_apps`` on the controller: nothing is touched, nothing is printed of their values."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.module_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.module_utils.spec import SpecError, resolve
from ansible_collections.flaskops.server.plugins.plugin_utils.apps import plain


class ActionModule(ActionBase):
    """See the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            apps = resolve(plain(self._task.args.get("apps")), self._task.args.get("path", "flask_apps"))
        except SpecError as error:
            return {**result, "failed": True, "msg": str(error), "mistakes": error.mistakes}
        images = [app for app in apps if SERVERS[app["server"]].runtime == "image"]
        return {
            **result,
            "changed": False,
            "names": [app["name"] for app in apps],
            "servers": sorted({app["server"] for app in apps}),
            "images": [app["name"] for app in images if not app["source"].get("image")],
        }
