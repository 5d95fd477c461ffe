# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The controller's half of a step: which host is asked, what is sent, and what becomes of the other apps on a failure."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible_collections.flaskops.server.plugins.action import release
from ansible_collections.flaskops.server.plugins.plugin_utils.sources.base import Artifact

APP = {"name": "shop", "source": {"path": "."}, "wsgi": "shop:app"}
BLOG = {**APP, "name": "blog", "release_commands": ["flask db upgrade"]}


def action_for(check_mode: bool = False, async_val: int = 0, diff: bool = False, **args: Any) -> Any:
    """Return the plugin for a task with these arguments."""
    action = object.__new__(release.ActionModule)
    action._task = types.SimpleNamespace(args=args, check_mode=check_mode, async_val=async_val, diff=diff)
    action._display = types.SimpleNamespace(warning=lambda _unused: None)
    action._templar = Templar(DataLoader(), {})
    return action


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is sent to the host, instead of sending it."""
    sent: list[dict[str, Any]] = []

    def call(_unused: Any, module: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        sent.append({"module": module.rpartition(".")[2], **arguments, **more})
        return {"changed": True, "msg": "abc is live", "invocation": {}}

    monkeypatch.setattr(release.ActionModule, "_execute_module", call)
    return sent


@pytest.mark.parametrize(
    ("state", "check_mode", "fault", "given_up"),
    [
        ("verify", False, AnsibleActionFail("no such tag"), True),
        ("stage", False, AnsibleActionFail("no such tag"), True),
        # Nothing was begun.
        ("verify", True, AnsibleActionFail("no such tag"), False),
        # It cannot be told either.
        ("verify", False, AnsibleConnectionFailure("unreachable"), False),
        # What visitors may have by now is not given up.
        ("activate", False, AnsibleActionFail("odd"), False),
    ],
)
def test_what_waits_to_go_live_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    calls: list[dict[str, Any]],
    state: str,
    check_mode: bool,
    fault: Exception,
    given_up: bool,
) -> None:
    def fail(*_unused: Any) -> None:
        raise fault

    for name in ("_artifact", "_deploy"):
        monkeypatch.setattr(release.ActionModule, name, fail)
    with pytest.raises(type(fault), match=str(fault)):
        action_for(check_mode, app=APP, state=state).run(None, {})
    assert [(call["state"], call["_context"]["given_up"]) for call in calls] == ([("abort", True)] if given_up else [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"app": APP, "state": "verfy"}, r"state: unknown state, did you mean verify\?"),
        ({"app": APP}, "missing required arguments: state"),
        ({"state": "verify"}, "missing required arguments: app"),
        ({"app": APP, "state": "verify", "relase": "previous"}, "relase: unknown option of release.*release"),
        ({"app": APP, "state": "verify", "_context": {}}, "_context: unknown option"),
        ({"app": APP, "state": "activate", "nginx_follows": "perhaps"}, "nginx_follows"),
        ({"app": "shpo", "state": "verify"}, r"this host has no app shpo, did you mean shop\?"),
        ({"app": "shop", "apps": [], "state": "verify"}, "this host has no app shop; it has none"),
    ],
)
def test_a_wrong_task_is_refused(calls: list[dict[str, Any]], args: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleActionFail, match=message):
        action_for(**args).run(None, {"flask_apps": [APP, BLOG]})
    assert calls == []


def test_an_app_is_found_by_its_name(calls: list[dict[str, Any]]) -> None:
    action_for(app="blog", state="activate").run(None, {"flask_apps": [APP, BLOG]})
    action_for(app="blog", apps=[BLOG], state="activate").run(None, {})
    assert [call["app"]["name"] for call in calls] == ["blog", "blog"]


# -- which host is asked -----------------------------------------------------------------------------------------------


def play(host: str, **registered: Any) -> dict[str, Any]:
    """Return the variables of a host in a play where every host has registered something."""
    return {
        "flask_apps": [APP, BLOG],
        "ansible_play_hosts": list(registered),
        "hostvars": {name: {"before": value} for name, value in registered.items()},
        "inventory_hostname": host,
        "before": registered[host],
    }


def verified(**pending: bool) -> dict[str, Any]:
    return {"results": [{"app": name, "pending": wait, "msg": f"{name} said"} for name, wait in pending.items()]}


@pytest.mark.parametrize(
    ("state", "app", "before", "asked"),
    [
        ("activate", "shop", verified(shop=True), True),
        ("activate", "shop", verified(shop=False, blog=True), False),
        ("activate", "shop", {"app": "shop", "pending": True}, True),
        ("abort", "shop", verified(blog=True), False),
        # It was never reached: the one before it failed.
        ("abort", "shop", {}, False),
        ("run_commands", "blog", verified(blog=True), True),
        # It has none.
        ("run_commands", "shop", verified(shop=True), False),
        ("stage", "shop", {"images": ["blog"]}, False),
        ("activate", "shop", "no result", False),
    ],
)
def test_only_a_host_with_something_to_do_is_asked(
    calls: list[dict[str, Any]], state: str, app: str, before: Any, asked: bool
) -> None:
    result = action_for(app=app, state=state, registered="before").run(None, play("one", one=before))
    assert bool(calls) is asked
    assert (result["changed"], result.get("skipped", False), result["app"]) == (asked, not asked, app)


@pytest.mark.parametrize(("host", "asked"), [("one", False), ("two", True), ("three", False)])
def test_release_commands_run_on_the_first_host_that_waits(calls: list[dict[str, Any]], host: str, asked: bool) -> None:
    variables = play(host, one=verified(blog=False), two=verified(blog=True), three=verified(blog=True))
    action_for(app="blog", state="run_commands", registered="before").run(None, variables)
    assert bool(calls) is asked


@pytest.mark.parametrize(("host", "asked"), [("one", False), ("two", True), ("three", False)])
def test_an_image_is_built_on_the_first_host_that_has_it(
    monkeypatch: pytest.MonkeyPatch, host: str, asked: bool
) -> None:
    walked: list[str] = []
    monkeypatch.setattr(release.ActionModule, "_walk", lambda *_unused: walked.append(host) or {"changed": True})
    variables = play(host, one={"images": []}, two={"images": ["shop"]}, three={"images": ["shop"]})
    action_for(app="shop", state="stage", registered="before").run(None, variables)
    assert bool(walked) is asked


# -- the summary -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("follows", "lines"), [(False, 1), (True, 0)])
def test_the_summary(monkeypatch: pytest.MonkeyPatch, follows: bool, lines: int) -> None:
    live = {"changed": True, "msg": "abc is live, 012 was", "reachable": False, "notes": ["twice", "b"]}
    monkeypatch.setattr(release.ActionModule, "_execute_module", lambda *_unused, **__: dict(live))
    waits = {"results": [{"app": "shop", "pending": True, "msg": "x", "size": "3 workers", "notes": ["twice"]}]}
    task = action_for(app="shop", state="activate", registered="before", nginx_follows=follows)
    summary = task.run(None, play("one", one=waits))["summary"]
    assert summary[:4] == ["shop: abc is live, 012 was", "shop: 3 workers", "shop: twice", "shop: b"]
    assert len(summary) == 4 + lines


def test_the_summary_of_an_app_that_had_nothing_to_do() -> None:
    before = {"results": [{"app": "shop", "pending": False, "msg": "shop: would deploy abc"}]}
    result = action_for(app="shop", state="activate", registered="before").run(None, play("one", one=before))
    assert result["summary"] == ["shop: would deploy abc"]


# -- what is sent ------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "packed.tar"
    packed.write_bytes(b"source")
    artifact = Artifact(path=packed, sha256="f" * 64, source={"kind": "path"})
    monkeypatch.setattr(release.ActionModule, "_artifact", lambda *_unused: artifact)
    monkeypatch.setattr(release.ActionModule, "_files", lambda *_unused: {"serve/a": "b"})
    monkeypatch.setattr(release.ActionModule, "_is_staged", lambda *_unused: True)


@pytest.mark.parametrize(
    ("state", "check_mode", "diff", "is_made", "wants_diff"),
    [
        ("verify", False, True, True, True),
        ("verify", True, True, True, True),
        ("verify", False, False, True, False),
        ("stage", False, True, True, False),
        # What is predicted in check mode is the release that the steps before would have verified.
        ("activate", True, True, True, True),
        ("activate", False, True, False, False),
        ("abort", True, True, False, False),
    ],
)
@pytest.mark.usefixtures("source")
def test_the_context(
    calls: list[dict[str, Any]], state: str, check_mode: bool, diff: bool, is_made: bool, wants_diff: bool
) -> None:
    action_for(check_mode, diff=diff, app=APP, state=state).run(None, {})
    (call,) = calls
    assert ("release" in call["_context"], call["_context"].get("diff", False)) == (is_made, wants_diff)
    # The steps after the health check carry nothing of what those before it, and a prediction, need.
    module = "release" if state in ("activate", "abort") and not check_mode else "release_with_verify"
    assert (call["module"], call["wrap_async"]) == (module, False)


@pytest.mark.usefixtures("source")
def test_an_asynchronous_step_has_all_it_may_need_with_it(calls: list[dict[str, Any]]) -> None:
    assert release.ActionModule._supports_async
    action_for(async_val=600, app=APP, state="verify").run(None, {})
    action_for(async_val=600, app=APP, state="activate").run(None, {})
    # It may turn out to be damaged, and nobody can send the source then.
    assert [(call["module"], call["wrap_async"]) for call in calls] == [
        ("release_with_source", True),
        ("release", True),
    ]


def test_credentials_of_urls_are_taken_out_of_a_diff(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(password: str) -> str:
        return f"PIP_INDEX_URL=https://ann:{password}@example.org/simple\n"

    shown = {"before_header": "shop: env", "after_header": "shop: env", "before": entry("old1"), "after": entry("new2")}
    answer = {"changed": True, "diff": [shown]}
    monkeypatch.setattr(release.ActionModule, "_execute_module", lambda *_unused, **__: answer)
    (seen,) = action_for(diff=True, app=APP, state="abort").run(None, {})["diff"]
    assert seen["before"] == "PIP_INDEX_URL=https://***@example.org/simple\n"
    # Or nothing would say that it changed.
    assert seen["after"] == seen["before"] + "(a hidden value changed)\n"


def test_a_variable_that_nothing_registered_is_refused() -> None:
    with pytest.raises(AnsibleActionFail, match="registered: this host has no variable after, expected the one that"):
        action_for(app="shop", state="activate", registered="after").run(None, play("one", one={"results": []}))


def test_a_host_with_many_apps_is_not_said_to_have_none() -> None:
    apps = [{"name": f"app{number}"} for number in range(40)]
    with pytest.raises(AnsibleActionFail, match=r"this host has no app zzz$"):
        action_for(app="zzz", apps=apps, state="verify").run(None, {})
