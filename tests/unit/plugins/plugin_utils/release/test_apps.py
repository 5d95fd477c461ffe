# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An app's spec on its way to a host: the secrets stay behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.flaskops.server.plugins.plugin_utils.release.apps import split_secrets, strip_tags

SECRET = "hunter2-hunter2"
SHOP: dict[str, Any] = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app"}


def test_secrets_are_taken_out() -> None:
    python = {"index_url": f"https://u:{SECRET}@index.example/simple", "find_links": "/wheels"}
    app, hidden = split_secrets({**SHOP, "secrets": {"KEY": SECRET}, "python": python})
    assert SECRET not in json.dumps(app)
    assert hidden == {"secrets": {"KEY": SECRET}, "python": {"index_url": python["index_url"]}}
    assert app["python"]["find_links"] == "/wheels"


def test_errors_fail_without_values() -> None:
    with pytest.raises(AnsibleActionFail, match=r"app\.secrets: expected a dictionary") as caught:
        split_secrets({**SHOP, "secrets": [SECRET]})
    assert SECRET not in str(caught.value)


def test_what_ansible_templated_is_plain() -> None:
    loader = DataLoader()
    variables = {"shop": loader.load("{name: shop, source: {path: .}, wsgi: 'shop:app'}"), "number": 1}
    templated = Templar(loader, variables).template(trust_as_template("{{ [shop, shop.name, number, true] }}"))
    assert strip_tags(templated) == [SHOP, "shop", 1, True]
    assert [type(item) for item in strip_tags(templated)] == [dict, str, int, bool]
