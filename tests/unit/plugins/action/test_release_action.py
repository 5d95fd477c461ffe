# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What becomes of a host's other apps where one is refused on the controller."""

from __future__ import annotations

import types
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.action import release

APP = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app"}


@pytest.mark.parametrize(
    ("state", "check_mode", "fault", "given_up"),
    [
        ("proved", False, AnsibleActionFail("no such tag"), True),
        ("built", False, AnsibleActionFail("no such tag"), True),
        # Nothing was begun.
        ("proved", True, AnsibleActionFail("no such tag"), False),
        # It cannot be told either.
        ("proved", False, AnsibleConnectionFailure("unreachable"), False),
        # What visitors may have by now is not given up.
        ("live", False, AnsibleActionFail("odd"), False),
    ],
)
def test_what_waits_to_go_live_is_given_up(
    monkeypatch: pytest.MonkeyPatch, state: str, check_mode: bool, fault: Exception, given_up: bool
) -> None:
    calls: list[dict[str, Any]] = []

    def fail(*_: Any) -> None:
        raise fault

    def call(_: Any, app: Any, arguments: dict[str, Any], request: dict[str, Any], *more: Any) -> dict[str, Any]:
        calls.append({**arguments, "given_up": request.get("given_up")})
        return {}

    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    for name in ("_artifact", "_deploy"):
        monkeypatch.setattr(release.ActionModule, name, fail)
    monkeypatch.setattr(release.ActionModule, "_call", call)
    action = object.__new__(release.ActionModule)
    action._task = types.SimpleNamespace(args={"app": APP, "state": state}, check_mode=check_mode)
    with pytest.raises(type(fault), match=str(fault)):
        action.run(None, {})
    assert calls == ([{"state": "withdrawn", "given_up": True}] if given_up else [])


def test_a_misspelt_state_is_refused_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    action = object.__new__(release.ActionModule)
    action._task = types.SimpleNamespace(args={"app": APP, "state": "prooved"}, check_mode=False)
    with pytest.raises(AnsibleActionFail, match=r"state: expected one of built, .*withdrawn.*proved"):
        action.run(None, {})
