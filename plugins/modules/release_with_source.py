#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: release_with_source
short_description: A step of M(flaskops.server.release) on a host that has to make the release
version_added: 0.1.0
description:
  - For the action plugin of M(flaskops.server.release) alone, which calls it in the place of that module where the release is
    not on the host yet. It brings along what makes a release, which all other steps do not have to carry.
extends_documentation_fragment:
  - flaskops.server.release
  - flaskops.server.release.attributes
  - action_common_attributes
  - action_common_attributes.flow
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: The action plugin of flaskops.server.release calls it
  flaskops.server.release_with_source:
    app: shop
    state: verify
"""

RETURN = r"""
release:
  description: The release's id; all else as M(flaskops.server.release) returns it.
  returned: always
  type: str
  sample: 3f2a9c01d7e4
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.module import ARGUMENTS, perform
from ansible_collections.flaskops.server.plugins.module_utils.deploy.staging import stager
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.builders import builders_for


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    perform(module, stager(builders_for(Layout(module.params["app"]["name"]))))


if __name__ == "__main__":
    main()
