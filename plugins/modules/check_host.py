#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.host.accounts import (
    find_errors,
    live_apps,
    look,
    warnings_of,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    names: list[str] = module.params["names"]
    try:
        host = look(names)
        errors = [one for name in names for one in find_errors(name, host)]
    except OSError as error:
        module.fail_json(msg=f"This host cannot be looked at: {error}")
    if errors:
        count = "1 thing is" if len(errors) == 1 else f"{len(errors)} things are"
        listed = "\n".join(f"  - {one}" for one in errors)
        module.fail_json(msg=f"{count} in the way on this host, nothing was touched:\n{listed}", errors=errors)
    for name in names:
        for warning in warnings_of(name, host):
            module.warn(warning)
    module.exit_json(
        changed=False,
        live=live_apps(),
        missing=[name for name in names if name not in host.accounts],
    )


if __name__ == "__main__":
    main()
