#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release
short_description: Stage, prove and switch releases of a Flask app
version_added: 0.1.0
description:
  - Packs the app's source on the controller, stages it on the host as an immutable release whose name is a digest of
    everything that can change its behaviour, starts it beside the live one, proves it healthy on a private socket, and
    moves the pointer C(live).
  - The steps are separate, so that a fleet can prove a release everywhere before it goes live anywhere.
options:
  app:
    description: One app, as an item of C(flask_apps).
    type: dict
    required: true
  state:
    description:
      - V(built) stages the release where it is missing and goes no further, so that others can fetch its image.
      - V(proved) stages the release where it is missing, starts it and proves it healthy. Nothing is done where it is live.
      - V(commanded) runs the app's C(release_commands) in the release that this run proved.
      - V(live) moves the pointer to the release that this run proved, drains and stops the old one.
      - V(withdrawn) stops the release that this run proved.
    type: str
    choices: [built, proved, commanded, live, withdrawn]
    default: live
  release:
    description:
      - With O(state=proved), a release that is on the host already, by its id, or V(previous) for the last good one
        before the live one. Without, the release that the app's source and settings make.
    type: str
  request:
    description: What the controller found out. Filled in by the action plugin.
    type: dict
  hidden:
    description: The app's secrets and its packed source, in a form that hides them whole. Filled in by the action plugin.
    type: str
attributes:
  check_mode:
    description: Says which release would be made, and how it differs from the live one.
    support: full
  diff_mode:
    description: Nothing is shown; what differs is said by name.
    support: none
extends_documentation_fragment: [action_common_attributes]
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: Prove the release beside the live one
  flaskops.server.release:
    app: "{{ flask_apps[0] }}"
    state: proved

- name: Let visitors have it
  flaskops.server.release:
    app: "{{ flask_apps[0] }}"
    state: live

- name: Prove the release before this one again, for a rollback
  flaskops.server.release:
    app: "{{ flask_apps[0] }}"
    state: proved
    release: previous
"""

RETURN = r"""
release:
  description: The release's id.
  returned: always
  type: str
  sample: 3f2a9c01d7e4
live:
  description: The release that was live before this step.
  returned: with O(state=proved) and O(state=withdrawn)
  type: str
  sample: 81bc22e0a9f3
notes:
  description: Messages for the operator, even on success, such as files of the repository that a shared path hides.
  returned: with O(state=proved) and O(state=live)
  type: list
  elements: str
reachable:
  description: Whether a site of nginx on this host leads visitors to the app's live release.
  returned: with O(state=live), and with O(state=proved) where the release is live already
  type: bool
source_needed:
  description: Whether the packed source has to be sent, because files of a release that was complete are gone.
  returned: with O(state=built) and O(state=proved), where it is so; the action plugin then sends it
  type: bool
pending:
  description: Whether the release waits to go live.
  returned: with O(state=proved)
  type: bool
differs:
  description: What differs between the release and the live one.
  returned: in check mode
  type: list
  elements: str
  sample: [code, env]
size:
  description: The number of workers and threads, and why.
  returned: with O(state=proved), when something was done
  type: str
previous:
  description: The release that was live before.
  returned: with O(state=live)
  type: str
seconds:
  description: How long the switch took, drain included.
  returned: with O(state=live)
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
