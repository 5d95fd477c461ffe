# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module's own protocol: whatever happens in a step, the app is not left locked and a message comes back."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy import module
from ansible_collections.flaskops.server.plugins.module_utils.deploy.full_walk import FullDeploy
from ansible_collections.flaskops.server.plugins.module_utils.deploy.walk import Deploy
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.modules import release_with_verify
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.apps import resolve_one


class Ended(Exception):  # noqa: N818
    """What the module told Ansible."""

    def __init__(self, failed: bool, result: dict[str, Any]) -> None:
        super().__init__(str(result))
        self.failed, self.result = failed, result


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the module on a directory instead of a host."""
    (tmp_path / "run").mkdir()
    spec = resolve_one({"name": "shop", "source": {"path": "."}, "wsgi": "shop:app"}, "app")
    spec.pop("secrets")

    class Module:
        check_mode = False
        tmpdir = str(tmp_path)

        def __init__(self, **_unused: Any) -> None:
            self.params = {
                "app": spec,
                "state": "verify",
                "release": None,
                "_context": {"run": {"token": "mine", "who": "ann"}, "host": "web1", "release": "a" * 12},
                "_sensitive": base64.b64encode(json.dumps({"secrets": {}, "python": {}}).encode()).decode(),
            }

        def fail_json(self, **result: Any) -> None:
            raise Ended(True, result)

        def exit_json(self, **result: Any) -> None:
            raise Ended(False, result)

    def run() -> Ended:
        before = os.umask(0o077)
        try:
            with pytest.raises(Ended) as ended:
                release_with_verify.main()
            assert os.umask(0o022) == 0o022
        finally:
            os.umask(before)
        return ended.value

    monkeypatch.setattr(release_with_verify, "AnsibleModule", Module)
    monkeypatch.setattr(module, "Layout", lambda name: Layout(name, tmp_path))
    run.root = tmp_path  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize("fault", [ValueError("odd"), TypeError("odder"), OSError(5, "Input/output error")])
def test_whatever_a_step_raises(call: Any, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def raise_it(*_unused: Any) -> None:
        raise fault

    monkeypatch.setattr(FullDeploy, "verify", raise_it)
    ended = call()
    assert ended.failed and ended.result["step"] == "host"
    assert ended.result["msg"].startswith("shop on web1: release ")
    assert "Nothing is live yet." in ended.result["msg"]
    assert os.listdir(call.root / "run/flaskops") == []


def test_another_app_that_cannot_be_stopped_does_not_hide_why(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(*_unused: Any) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(FullDeploy, "verify", raise_it)
    monkeypatch.setattr(Deploy, "abort", raise_it)
    (call.root / "run/flaskops").mkdir(mode=0o700)
    (call.root / "run/flaskops/blog.json").write_text('{"token": "mine"}')
    ended = call()
    assert "hit a bug in flaskops.server (ValueError)" in ended.result["msg"]
    assert "blog, which waited to go live too, could not be stopped: odd" in ended.result["msg"]
