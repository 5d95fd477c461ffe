#!/usr/bin/python
# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: packages
short_description: Install those of the distribution's packages that are missing
version_added: 0.1.0
description:
  - Has M(ansible.builtin.apt) install packages, without what they only recommend, where one of them is missing. Where none
    is, apt is not even asked, since it takes its time to read all its lists.
  - A package that only came along with another one is made one that was asked for, so that it does not go with it.
  - Lists of packages are fetched where they are too old, and again where apt finds out that they are not good after all.
options:
  names:
    description: The packages, as M(ansible.builtin.apt) takes them.
    type: list
    elements: str
    required: true
  cache_valid_time:
    description: Seconds for which lists of packages are good.
    type: int
    default: 86400
attributes:
  check_mode:
    description: No lists are fetched. Where apt has none that name a package, it is said that it would be installed.
    support: full
  diff_mode:
    description: As M(ansible.builtin.apt) does.
    support: full
extends_documentation_fragment: [flaskops.server.attributes]
author:
  - The flaskops.server contributors (@flaskops)
"""

EXAMPLES = r"""
- name: Install what the app reads pictures with
  flaskops.server.packages:
    names: [libjpeg62-turbo, libwebp7]
"""

RETURN = r"""
missing:
  description: Those of the packages that were missing, or had only come along with another one.
  returned: success
  type: list
  elements: str
  sample: [libwebp7]
"""
# The controller looks and decides, in the action plugin of the same name; what is missing, Ansible's own module installs.
