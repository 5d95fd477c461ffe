# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every state predicts in check mode: changed where it would change something, and nothing is touched."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Step
from ansible_collections.flaskops.server.plugins.module_utils.deploy.preview import predict
from fakes import Host

A, B = "a" * 12, "b" * 12
MINE = {"token": "mine"}
COMMANDS: dict[str, Any] = {"release_commands": ["flask db upgrade"]}


@pytest.mark.parametrize(
    ("state", "app", "release", "changed", "message"),
    [
        (Step.STAGE, {}, B, True, f"shop: would stage {B}"),
        (Step.STAGE, {}, A, False, f"shop: {A} is on this host already"),
        (Step.VERIFY, {}, B, True, f"shop: would deploy {B}, because of other code than {A}"),
        (Step.VERIFY, {}, A, False, f"shop: {A} is live, nothing to do"),
        (Step.RUN_COMMANDS, COMMANDS, B, True, "shop: would run 1 release commands"),
        (Step.RUN_COMMANDS, COMMANDS, A, False, "shop: would run 0 release commands"),
        (Step.RUN_COMMANDS, {}, B, False, "shop: would run 0 release commands"),
        (Step.ACTIVATE, {}, B, True, f"shop: would deploy {B}, because of other code than {A}"),
        (Step.ACTIVATE, {}, A, False, f"shop: {A} is live, nothing to do"),
    ],
)
def test_beside_a_live_release(
    host: Host, state: Step, app: dict[str, Any], release: str, changed: bool, message: str
) -> None:
    host.deploy(A)
    result = predict(host.walk(release, app), state, MINE)
    assert (result["changed"], result["msg"]) == (changed, message)
    assert host.running == {A} and host.layout.staged_ids() == [A]


@pytest.mark.parametrize("state", [Step.STAGE, Step.VERIFY, Step.ACTIVATE])
def test_on_a_host_where_nothing_is_live(host: Host, state: Step) -> None:
    assert predict(host.walk(A), state, MINE)["changed"]
    assert host.layout.staged_ids() == []


@pytest.mark.parametrize(("token", "changed"), [("mine", True), ("hers", False)])
def test_only_what_this_run_verified_would_be_aborted(host: Host, token: str, changed: bool) -> None:
    assert predict(host.walk(A), Step.ABORT, MINE) == {"changed": False}
    host.step(host.walk(A), "verify")
    assert predict(host.walk(A), Step.ABORT, {"token": token}) == {"changed": changed}
    assert host.running == {A}
