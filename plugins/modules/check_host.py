#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: check_host
short_description: Check that a host has nothing else under the names of apps
version_added: 0.1.0
description:
  - An app's name becomes its account, its group, its systemd units and its directory below C(/srv). This module refuses
    names under which the host already has one of these that was not made for the app, such as a person's login, a
    group of Debian's or a service of a package.
  - An account that was made for the app is refused too where it is a member of a group of administrators, or not in a
    group of its own.
  - All errors of all names are reported at once, each with what is there and what to do. Nothing is changed.
options:
  names:
    description: The names of the apps.
    type: list
    elements: str
    required: true
extends_documentation_fragment: [flaskops.server.attributes, flaskops.server.attributes.read_only]
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: Refuse names that this host uses for something else
  flaskops.server.check_host:
    names: [shop, blog]
"""

RETURN = r"""
live:
  description: The apps that have a live release on this host, those of other inventories too.
  returned: success
  type: list
  elements: str
  sample: [shop]
missing:
  description: The names that have no account yet.
  returned: success
  type: list
  elements: str
  sample: [blog]
errors:
  description: What is in the way, one sentence or more each.
  returned: failure
  type: list
  elements: str
  sample: ["staff: a group of that name is on this host (gid 50) and is not the app's"]
"""

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
