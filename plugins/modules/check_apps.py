#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: check_apps
short_description: Check the inventory's apps before anything is touched
version_added: 0.1.0
description:
  - Checks a list of apps as C(flask_apps) holds them, on the controller, without connecting to a host.
  - All mistakes are reported at once, each with its path, what was expected, and the nearest known key.
  - No value is ever printed.
options:
  apps:
    description: The apps.
    type: list
    elements: dict
    required: true
  path:
    description: What the list is called in messages.
    type: str
    default: flask_apps
attributes:
  check_mode:
    description: Nothing is ever changed.
    support: full
extends_documentation_fragment: [action_common_attributes]
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: Refuse a wrong inventory
  flaskops.server.check_apps:
    apps: "{{ flask_apps }}"
"""

RETURN = r"""
names:
  description: The names of the apps.
  returned: success
  type: list
  elements: str
  sample: [shop]
servers:
  description: The servers that they use, each once.
  returned: success
  type: list
  elements: str
  sample: [gunicorn]
images:
  description: The names of those whose image is built from their source.
  returned: success
  type: list
  elements: str
  sample: []
mistakes:
  description: What is wrong, one sentence each.
  returned: failure
  type: list
  elements: str
  sample: ["flask_apps[0].source.gti: unknown key, did you mean git?"]
"""
# Everything happens on the controller, in the action plugin of the same name.
