# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter that turns apps into sites of nginx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.from_apps import sites_of_apps
from ansible_collections.flaskops.server.plugins.plugin_utils.nginx.sites import SitesError
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import strip_tags
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import SpecError, resolve

DOCUMENTATION = r"""
name: nginx_sites
short_description: Turn apps into sites of nginx
description:
  - Takes apps as C(flask_apps) holds them and returns what the role P(flaskops.server.nginx#role) takes as
    C(nginx_sites).
  - A site reaches its app through C(/srv/APP/live/http.sock), so that a deploy needs no reload of nginx.
  - Static files are looked for in the live release and in the two before it.
  - An app without domains becomes the default server; two of them are an error.
version_added: 0.1.0
author:
  - The flaskops.server contributors (@flaskops)
options:
  _input:
    description: The apps.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Front the apps of this host
  ansible.builtin.include_role:
    name: flaskops.server.nginx
  vars:
    nginx_sites: "{{ flask_apps | flaskops.server.nginx_sites }}"
"""

RETURN = r"""
_value:
  description: The sites.
  type: list
  elements: dict
"""


def nginx_sites(apps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sites of these apps.

    :raises AnsibleFilterError: listing what is wrong with them.
    """
    try:
        return sites_of_apps(resolve(strip_tags(apps)))
    except (SpecError, SitesError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"nginx_sites": nginx_sites}
