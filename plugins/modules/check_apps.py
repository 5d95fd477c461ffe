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
  - All errors are reported at once, each with its path, what was expected, and the nearest known key.
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
  fleet:
    description:
      - Look at the C(flask_apps) of all hosts of the play too, and refuse where none of them has an app.
      - The shipped playbooks do; O(only) and O(single) have no effect without it.
    type: bool
    default: false
  only:
    description:
      - The apps that the play is about, as a list or as text with commas between them. V(all) stands for every app.
      - A name that no host of the play has is refused. Without this option the play is about every app.
    type: raw
  single:
    description: Refuse where the hosts of the play have several apps and O(only) names none.
    type: bool
    default: false
attributes:
  platform:
    description: Runs on the controller.
    platforms: all
    support: full
extends_documentation_fragment: [flaskops.server.attributes.read_only]
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
  description: The names of the host's apps that the play is about.
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
errors:
  description: What is wrong, one sentence each.
  returned: failure
  type: list
  elements: str
  sample: ["flask_apps[0].source.gti: unknown key, did you mean git?"]
"""
# Everything happens on the controller, in the action plugin of the same name.
