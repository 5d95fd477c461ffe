# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of nginx_config: checks the sites, renders the templates, calls the module once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import SitesError, resolve_sites
from ansible_collections.flaskops.server.plugins.plugin_utils.release.templates import render
from ansible_collections.flaskops.server.plugins.plugin_utils.run.tasks import refuse_unknown, require_core

#: What the controller takes care of; everything else is the module's.
_OURS = ("templates", "sites", "site_template", "remove_links")

#: What a task can say; the module's other options are filled in here.
OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "checked", "reloaded"], "default": "present"},
    "root": {"type": "str"},
    "templates": {
        "type": "list",
        "elements": "dict",
        "options": {
            "src": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "vars": {"type": "dict"},
            "backup": {"type": "bool"},
        },
    },
    "sites": {"type": "list", "elements": "raw"},
    "site_template": {"type": "str"},
    "self_signed_days": {"type": "int"},
    "remove_links": {"type": "dict"},
    "service": {"type": "str"},
    "error_log": {"type": "str"},
}


class ActionModule(ActionBase):
    """Documented with the module of the same name."""

    _requires_connection = True
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        require_core()
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        refuse_unknown(self._task.args, tuple(OPTIONS), "nginx_config")
        # What is wrong inside of a site is for resolve_sites to say, all at once.
        self.validate_argument_spec(OPTIONS)
        state = self._task.args.get("state", "present")
        sites = self._sites()
        if state == "checked":
            return result | {"changed": False, "sites": [site["name"] for site in sites]}
        arguments = {key: value for key, value in self._task.args.items() if key not in _OURS}
        if state == "present":
            arguments["_files"] = self._files(sites, variables)
            arguments["_certificates"] = [
                {"certificate": site["certificate"], "key": site["key"], "names": site["certificate_names"]}
                for site in sites
                if site["state"] == "present" and site["tls"]["mode"] == "self_signed"
            ]
        return result | self._execute_module(
            module_name="flaskops.server.nginx_config", module_args=arguments, task_vars=variables
        )

    def _sites(self) -> list[dict[str, Any]]:
        try:
            return resolve_sites(self._task.args.get("sites") or [])
        except SitesError as error:
            raise AnsibleActionFail(str(error)) from error

    def _files(self, sites: list[dict[str, Any]], task_vars: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what should be below the configuration directory, and what should not."""
        present = [site for site in sites if site["state"] == "present"]
        variables = task_vars | {"sites": present}
        files = [
            {
                "path": entry["path"],
                "content": self._rendered(entry["src"], variables | dict(entry.get("vars") or {})),
                "backup": entry.get("backup", False),
            }
            for entry in self._task.args.get("templates") or []
        ]
        template = self._task.args.get("site_template")
        if present and not template:
            raise AnsibleActionFail("site_template is missing, expected the template of a site")
        files += [
            {"path": site["file"], "content": self._rendered(template, variables | {"site": site}), "owned": True}
            for site in present
        ]
        for site in sites:
            if site["state"] == "absent":
                files.append({"path": site["file"], "owned": True})
                # They carry no mark, and nobody else writes below that directory.
                files += [{"path": site[key]} for key in ("certificate", "key") if site["tls"]["mode"] == "self_signed"]
        files += [
            {"path": path, "link": target} for path, target in (self._task.args.get("remove_links") or {}).items()
        ]
        return files

    def _rendered(self, source: str, variables: dict[str, Any]) -> str:
        try:
            return render(self._templar, Path(self._find_needle("templates", source)), variables)
        except AnsibleError as error:
            raise AnsibleActionFail(f"{source}: {error}") from error
