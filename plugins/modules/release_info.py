#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_info
short_description: Say what is live of a Flask app on a host, and how it is
version_added: 0.1.0
description:
  - Reads the releases, the record and systemd's view of one app, and asks the live release for its health.
options:
  app:
    description:
      - The app, as the name of an item of C(flask_apps) or as a dict with the keys of such an item.
      - A name that no app of the host has is refused with the nearest one.
    type: raw
    required: true
  deploys:
    description: How many of the last deploys to return.
    type: int
    default: 5
attributes:
  check_mode:
    description: Nothing is ever changed.
    support: full
  diff_mode:
    description: Nothing is ever changed.
    support: none
extends_documentation_fragment: [action_common_attributes]
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: See what is live
  flaskops.server.release_info:
    app: shop
  register: shop
"""

RETURN = r"""
app:
  description: The app's name.
  returned: success
  type: str
  sample: shop
live:
  description: The id of the live release; null where none is.
  returned: success
  type: str
  sample: 3f2a9c01d7e4
damaged:
  description: What is gone of the files of the live release, in words; empty where nothing is. A deploy makes it again.
  returned: success
  type: list
  elements: str
  sample: []
reachable:
  description: Whether a site of nginx on this host leads visitors to the app.
  returned: success
  type: bool
source:
  description: Where the live release came from.
  returned: success
  type: dict
  sample: {kind: git, version: v1.4.2}
staged:
  description: When the live release was made, UTC.
  returned: success
  type: str
  sample: "2026-01-31T12:00:00Z"
size:
  description: The number of workers and threads, and why.
  returned: success
  type: str
previous:
  description: Where a rollback would go; null where there is nowhere.
  returned: success
  type: str
releases:
  description: The releases on the host.
  returned: success
  type: list
  elements: str
deploys:
  description: The last deploys, oldest first.
  returned: success
  type: list
  elements: dict
health:
  description: The status that the live release answered with, or why there was no answer.
  returned: success
  type: str
  sample: "200"
instance:
  description: The state of the live release's systemd unit.
  returned: success
  type: str
  sample: active
since:
  description: Since when it is in this state.
  returned: when a release is live
  type: str
memory:
  description: Its memory, in bytes.
  returned: success
  type: int
units:
  description: The state of the live release's other units, such as workers and timers.
  returned: success
  type: dict
  sample: {}
parts:
  description: What the parts of the live release say of themselves.
  returned: success
  type: dict
  sample: {}
lines:
  description: The same for a person to read.
  returned: success
  type: list
  elements: str
"""

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
