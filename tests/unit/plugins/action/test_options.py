# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every action plugin takes what its module documents, and refuses everything else."""

from __future__ import annotations

import importlib
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

PLUGINS = Path(__file__).resolve().parents[4] / "plugins"
NAMES = sorted(path.stem for path in (PLUGINS / "action").glob("*.py"))

#: Something that is wrong in an option of each plugin.
WRONG: dict[str, dict[str, Any]] = {
    "check_apps": {"apps": [], "fleet": "perhaps"},
    "nginx_config": {"self_signed_days": "long"},
    "packages": {"names": ["a"], "cache_valid_time": "long"},
    "release": {"app": "shop", "state": "activate", "nginx_follows": "perhaps"},
    "release_info": {"app": "shop", "deploys": "all"},
}


def plugin(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.flaskops.server.plugins.action.{name}")


def run(name: str, args: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
    action = object.__new__(plugin(name).ActionModule)
    action._task = types.SimpleNamespace(args=args, check_mode=False, async_val=0, diff=False)
    action.run(None, {})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleActionFail, match=f"nobody_knows_it: unknown option of {name}"):
        run(name, {"nobody_knows_it": 1}, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_misspelt_option_is_refused_with_the_nearest_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    option = max(plugin(name).OPTIONS, key=len)
    with pytest.raises(AnsibleActionFail, match=f"did you mean {option}"):
        run(name, {option[:-1]: 1}, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_a_wrong_type_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = list(WRONG[name])[-1]
    with pytest.raises(AnsibleActionFail, match=wrong):
        run(name, WRONG[name], monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_documented_is_what_a_task_can_say(name: str) -> None:
    documentation = yaml.safe_load((PLUGINS / "modules" / f"{name}.yml").read_text(encoding="utf-8"))["DOCUMENTATION"]
    if "options" not in documentation:
        fragment = importlib.import_module(f"ansible_collections.flaskops.server.plugins.doc_fragments.{name}")
        documentation = yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)
    # What begins with an underscore is filled in by the action plugin.
    public = {option for option in documentation["options"] if not option.startswith("_")}
    assert public == set(plugin(name).OPTIONS)
