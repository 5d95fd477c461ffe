# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Check ``flask_apps`` on the controller: nothing is touched, nothing is printed of their values."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import strip_tags
from ansible_collections.flaskops.server.plugins.plugin_utils.run import choice
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import check_core, refuse_unknown
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import SpecError, resolve

OPTIONS = {
    "apps": {"type": "raw", "required": True},
    "path": {"type": "str", "default": "flask_apps"},
    "fleet": {"type": "bool", "default": False},
    "only": {"type": "raw"},
    "single": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """See the module's documentation."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        # The first task of every playbook: it fails without an exception, of which an old core would speak first.
        if wrong := check_core():
            return {**result, "failed": True, "msg": wrong}
        refuse_unknown(self._task.args, tuple(OPTIONS), "check_apps")
        _unused, arguments = self.validate_argument_spec(OPTIONS)
        try:
            apps = resolve(strip_tags(arguments["apps"]), arguments["path"])
            if arguments["fleet"]:
                fleet = choice.Fleet(task_vars or {}, [app["name"] for app in apps])
                chosen = choice.choose(fleet, strip_tags(arguments["only"]), arguments["single"])
                apps = [app for app in apps if app["name"] in chosen]
                if arguments["only"] is not None and "app" not in load_extra_vars(self._loader):
                    # A variable of that name in an inventory can mean something else.
                    self._display.warning(f"The variable app narrows this run to: {', '.join(chosen) or 'no app'}.")
        except SpecError as error:
            return {**result, "failed": True, "msg": str(error), "errors": error.errors}
        except choice.ChoiceError as error:
            return {**result, "failed": True, "msg": str(error)}
        images = [app for app in apps if SERVERS[app["server"]].runtime == "image"]
        return {
            **result,
            "changed": False,
            "names": [app["name"] for app in apps],
            "servers": sorted({app["server"] for app in apps}),
            "images": [app["name"] for app in images if not app["source"].get("image")],
        }
