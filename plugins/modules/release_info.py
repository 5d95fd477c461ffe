#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.status import as_lines, status
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import UnitStates


def main() -> None:
    module = AnsibleModule(
        argument_spec={"app": {"type": "raw", "required": True}, "deploys": {"type": "int", "default": 5}},
        supports_check_mode=True,
    )
    app = module.params["app"]
    found = status(Layout(app["name"]), UnitStates(), app, module.params["deploys"])
    module.exit_json(changed=False, lines=as_lines(found), **found)


if __name__ == "__main__":
    main()
