# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which apps a run is about: those that are named, as long as some host has them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.run.choice import ChoiceError, Fleet, choose

FLEET = {
    "web1": {"flask_apps": [{"name": "blog"}, {"name": "zed"}]},
    "web2": {"flask_apps": [{"name": "wiki"}]},
    "db1": {"ansible_host": "db1"},
}


def fleet(host: str, hostvars: dict[str, Any] | None = None) -> Fleet:
    of_all = FLEET if hostvars is None else hostvars
    here = [app["name"] for app in of_all[host].get("flask_apps", [])]
    return Fleet({"hostvars": of_all, "ansible_play_hosts_all": list(of_all)}, here)


@pytest.mark.parametrize(
    ("host", "only", "chosen"),
    [
        ("web1", None, ["blog", "zed"]),
        ("web1", "zed", ["zed"]),
        ("web1", " zed , blog ", ["zed", "blog"]),
        ("web1", ["zed"], ["zed"]),
        ("web1", "all", ["blog", "zed"]),
        ("db1", None, []),
        ("db1", "all", []),
    ],
)
def test_what_is_named_is_chosen(host: str, only: Any, chosen: list[str]) -> None:
    assert choose(fleet(host), only, single=False) == chosen


def test_an_app_of_another_host_is_no_mistake() -> None:
    assert "blog" not in choose(fleet("web1"), "wiki", single=True)


@pytest.mark.parametrize("host", list(FLEET))
def test_an_unknown_name_is_refused_everywhere(host: str) -> None:
    with pytest.raises(ChoiceError, match=r"zde \(did you mean zed\?\), foo\. Apps here: blog, wiki, zed\."):
        choose(fleet(host), "zde,foo,blog", single=False)


@pytest.mark.parametrize("only", ["", " ", ",", [], {"name": "zed"}, 5, [None]])
def test_a_choice_of_nothing_is_not_one_of_everything(only: Any) -> None:
    with pytest.raises(ChoiceError, match="expected the name of an app"):
        choose(fleet("web1"), only, single=False)


@pytest.mark.parametrize("host", list(FLEET))
def test_among_several_one_has_to_be_named_for_a_rollback(host: str) -> None:
    with pytest.raises(
        ChoiceError,
        match=r"Several apps are on these hosts: blog, wiki, zed\. Choose one with -e app=blog, or all of them with -e app=all",
    ):
        choose(fleet(host), None, single=True)
    assert choose(fleet("web1"), "all", single=True) == ["blog", "zed"]


def test_where_there_is_one_app_it_need_not_be_named() -> None:
    alone = {"web1": FLEET["web2"], "web2": FLEET["web2"], "db1": {}}
    assert choose(fleet("web1", alone), None, single=True) == ["wiki"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"flask_app": [{"name": "blog"}]}, "They have flask_app: did you mean flask_apps?"),
        ({"flaskapps": []}, "They have flaskapps"),
        ({"flask_apps": []}, "flask_apps is empty or not set. Nothing was touched."),
        ({"flask_apps": None}, "flask_apps is empty or not set. Nothing was touched."),
        ({}, "flask_apps is empty or not set. Nothing was touched."),
    ],
)
def test_no_app_at_all_is_refused(variables: dict[str, Any], words: str) -> None:
    nothing = {"web1": variables, "db1": {}}
    with pytest.raises(ChoiceError, match=r"No app is defined for any host of this run \(web1, db1\)") as refused:
        choose(Fleet({"hostvars": nothing, "ansible_play_hosts_all": list(nothing)}, []), None, single=False)
    assert words in str(refused.value)


def test_a_limit_to_hosts_without_apps_is_no_mistake() -> None:
    limited = {"hostvars": FLEET, "ansible_play_hosts_all": ["db1"], "groups": {"all": list(FLEET)}}
    assert choose(Fleet({**limited, "ansible_limit": "db1"}, []), None, single=False) == []
    with pytest.raises(ChoiceError, match="No app is defined"):
        choose(Fleet(limited, []), None, single=False)
