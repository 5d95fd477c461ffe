#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.full_walk import FullDeploy
from ansible_collections.flaskops.server.plugins.module_utils.deploy.module import ARGUMENTS, perform
from ansible_collections.flaskops.server.plugins.module_utils.deploy.preview import PREVIEW


def main() -> None:
    perform(AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True), FullDeploy, PREVIEW)


if __name__ == "__main__":
    main()
