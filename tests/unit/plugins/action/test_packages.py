# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When apt is asked at all, when it is asked again, and what is foretold where it knows nothing yet."""

from __future__ import annotations

import shutil
import subprocess
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.flaskops.server.plugins.action.packages import LOOK, ActionModule, missing

INSTALLED = "installed nginx\ninstalled openssl\n"
CHANGED = {"changed": True}
UNCHANGED = {"changed": False}
UNKNOWN = {"failed": True, "msg": "No package matching 'nginx' is available"}
MOVED = {"failed": True, "msg": "E: Failed to fetch http://deb.debian.org/nginx.deb  404  Not Found"}
NO_BINDINGS = {
    "failed": True,
    "msg": "python3-apt must be installed to use check mode. If run normally this module can …",
}
LOCKED = {"failed": True, "msg": "Failed to lock apt for exclusive operation"}

Run = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """What runs a task on a host that looks so, and whose apt answers so; it returns the result and what apt was told."""

    def task(looked: str, *answers: dict[str, Any], check_mode: bool = False, **options: Any) -> Any:
        told: list[dict[str, Any]] = []
        left = iter(answers)

        def execute(_unused: Any, name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
            assert name == "ansible.builtin.apt"
            told.append(arguments)
            return next(left)

        monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
        monkeypatch.setattr(ActionBase, "_low_level_execute_command", lambda *_unused: {"rc": 0, "stdout": looked})
        monkeypatch.setattr(ActionBase, "_execute_module", execute)
        action = object.__new__(ActionModule)
        action._task = types.SimpleNamespace(
            args={"names": ["nginx", "openssl"], **options}, check_mode=check_mode, action="packages"
        )
        return action.run(None, {}), told

    return task


@pytest.mark.parametrize(
    ("looked", "expected"),
    [
        (INSTALLED, []),
        ("", ["nginx", "openssl"]),
        ("installed openssl\n", ["nginx"]),
        ("config-files nginx\ninstalled openssl\n", ["nginx"]),
        (INSTALLED + "auto openssl\nauto perl\n", ["openssl"]),
        ("installed nginx-core\ninstalled openssl\n", ["nginx"]),
    ],
)
def test_what_is_missing(looked: str, expected: list[str]) -> None:
    assert missing(["nginx", "openssl"], looked) == expected


@pytest.mark.parametrize("name", ["nginx=1.26.3-3", "nginx*", "nginx/bookworm", "nginx:arm64"])
def test_what_says_more_than_a_name_is_for_apt(name: str) -> None:
    assert missing([name], INSTALLED) == [name]


def test_apt_is_not_asked_where_nothing_is_missing(run: Run) -> None:
    assert run(INSTALLED) == ({"changed": False, "missing": []}, [])


def test_what_is_missing_is_installed_with_lists_of_that_age(run: Run) -> None:
    result, told = run("installed openssl\n", CHANGED, cache_valid_time=60)
    assert result == {"changed": True, "missing": ["nginx"]}
    assert told == [{"name": ["nginx", "openssl"], "install_recommends": False, "cache_valid_time": 60}]
    assert run("", CHANGED)[1][0]["cache_valid_time"] == 86400


@pytest.mark.parametrize("answer", [UNKNOWN, MOVED])
def test_stale_lists_are_fetched_once_again(run: Run, answer: dict[str, Any]) -> None:
    result, told = run("", answer, CHANGED)
    assert result == {"changed": True, "missing": ["nginx", "openssl"]}
    assert told[1] == {"name": ["nginx", "openssl"], "install_recommends": False, "update_cache": True}
    assert run("", answer, answer)[0]["failed"]


def test_another_failure_is_told_at_once(run: Run) -> None:
    result, told = run("", LOCKED)
    assert (result["failed"], result["msg"], len(told)) == (True, LOCKED["msg"], 1)


@pytest.mark.parametrize("answer", [UNKNOWN, NO_BINDINGS])
def test_check_mode_on_a_bare_host_foretells(run: Run, answer: dict[str, Any]) -> None:
    result, told = run("installed openssl\n", answer, check_mode=True)
    assert result == {"changed": True, "missing": ["nginx"], "msg": "Would be installed: nginx"}
    assert len(told) == 1


def test_check_mode_hides_no_other_failure(run: Run) -> None:
    assert run("", LOCKED, check_mode=True)[0]["failed"]
    assert run(INSTALLED + "auto nginx\n", UNCHANGED, check_mode=True)[0]["changed"] is False


def test_an_option_that_is_misspelt_is_refused(run: Run) -> None:
    with pytest.raises(AnsibleActionFail, match="cache_valid_tim"):
        run(INSTALLED, cache_valid_tim=1)


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="needs dpkg")
def test_a_host_is_looked_at(tmp_path: Path) -> None:
    states = tmp_path / "extended_states"
    states.write_text(
        "Package: perl\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: dpkg\nArchitecture: amd64\nAuto-Installed: 0\n\n"
    )
    command = LOOK.replace("/var/lib/apt/extended_states", str(states)) % "dpkg no-such-package"
    looked = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (looked.stdout, looked.stderr) == ("installed dpkg\nauto perl\n", "")
    assert missing(["dpkg", "no-such-package"], looked.stdout) == ["no-such-package"]
