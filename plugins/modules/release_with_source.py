#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskops.server.plugins.module_utils.deploy.full_walk import FullDeploy
from ansible_collections.flaskops.server.plugins.module_utils.deploy.module import ARGUMENTS, perform
from ansible_collections.flaskops.server.plugins.module_utils.deploy.preview import PREVIEW
from ansible_collections.flaskops.server.plugins.module_utils.deploy.staging import stager
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.builders import builders_for


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    perform(module, FullDeploy, PREVIEW, stager(builders_for(Layout(module.params["app"]["name"]))))


if __name__ == "__main__":
    main()
