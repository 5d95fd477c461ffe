# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filter as a playbook uses it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.flaskops.server.plugins.filter.nginx_sites import FilterModule

nginx_sites = FilterModule().filters()["nginx_sites"]


def app(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "source": {"path": "."}, "wsgi": "app:app", **more}


def test_apps_become_sites() -> None:
    sites = nginx_sites([app("one", domains=["one.example.org"]), app("two")])
    assert [site["upstream"] for site in sites] == ["unix:/srv/one/live/http.sock", "unix:/srv/two/live/http.sock"]


def test_no_apps_no_sites() -> None:
    assert nginx_sites([]) == []


def test_two_default_servers_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="has none either, and a host has one default vhost"):
        nginx_sites([app("one"), app("two")])


@pytest.mark.parametrize("value", [None, {}, "apps", [1], [{"domains": []}]])
def test_what_is_no_list_of_apps_is_refused(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="in the inventory, nothing was changed"):
        nginx_sites(value)
