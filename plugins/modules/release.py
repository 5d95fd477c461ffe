#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Stage, verify and activate releases of a Flask app
version_added: 0.1.0
description:
  - Packs the app's source on the controller, stages it on the host as an immutable release whose name is a digest of
    everything that can change its behaviour, starts it beside the live one, checks its health on a private socket, and
    moves the pointer C(live).
  - The steps are separate, so that a fleet can verify a release everywhere before it goes live anywhere.
extends_documentation_fragment:
  - flaskops.server.release
  - flaskops.server.release.attributes
  - action_common_attributes
  - action_common_attributes.flow
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: Verify the release beside the live one
  flaskops.server.release:
    app: shop
    state: verify
  register: shop_verified

- name: Switch visitors to it, unless it is live already
  flaskops.server.release:
    app: shop
    state: activate
    registered: shop_verified

- name: Verify the previous release again, for a rollback
  flaskops.server.release:
    app: shop
    state: verify
    release: previous
"""

RETURN = r"""
app:
  description: The app's name.
  returned: always
  type: str
  sample: shop
release:
  description: The release's id.
  returned: always
  type: str
  sample: 3f2a9c01d7e4
live:
  description: The release that was live before this step.
  returned: with O(state=verify) and O(state=abort)
  type: str
  sample: 81bc22e0a9f3
notes:
  description: Messages for the operator, even on success, such as files of the repository that a shared path hides.
  returned: with O(state=verify) and O(state=activate)
  type: list
  elements: str
summary:
  description: What the deploy did with the app, in lines for a person to read.
  returned: with O(state=activate)
  type: list
  elements: str
  sample: ["shop: 3f2a9c01d7e4 is live, 81bc22e0a9f3 was"]
reachable:
  description: Whether a site of nginx on this host leads visitors to the app's live release.
  returned: with O(state=activate), and with O(state=verify) when the release is live already
  type: bool
source_needed:
  description: Whether the packed source has to be sent, because files of a complete release are gone.
  returned: with O(state=stage) and O(state=verify), to the action plugin, which then sends it
  type: bool
pending:
  description: Whether the release waits to go live.
  returned: with O(state=verify)
  type: bool
differs:
  description: What differs between the release and the live one.
  returned: in check mode
  type: list
  elements: str
  sample: [code, env]
size:
  description: The number of workers and threads, and why.
  returned: with O(state=verify), when something was done
  type: str
previous:
  description: The release that was live before.
  returned: with O(state=activate)
  type: str
seconds:
  description: How long the switch took, drain included.
  returned: with O(state=activate)
  type: float
holder:
  description: Who holds the app's lock.
  returned: when another run does
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.module import ARGUMENTS, perform


def main() -> None:
    perform(AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True))


if __name__ == "__main__":
    main()
