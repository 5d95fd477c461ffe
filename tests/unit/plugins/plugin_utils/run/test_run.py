# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who runs a playbook, and whether a run that holds a lock is still there."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.run import run


def test_this_run_is_the_same_in_all_workers_and_alive() -> None:
    this = run.identify_run()
    assert this == run.identify_run()
    assert this["pid"] == os.getppid()
    assert set(this) == {"token", "controller", "pid", "who"}
    assert not run.is_dead(this)


def test_a_run_that_ended_here_is_dead() -> None:
    child = subprocess.Popen(["sleep", "60"])
    holder = {"token": f"{run.identify_run()['controller']}/{child.pid}/{run._read_start(child.pid)}"}
    assert not run.is_dead(holder)
    child.kill()
    child.wait()
    assert run.is_dead(holder)


def test_a_number_that_another_process_has_now_is_a_dead_run() -> None:
    assert run.is_dead({"token": f"{run.identify_run()['controller']}/{os.getpid()}/1"})


@pytest.mark.parametrize("holder", [{}, {"token": ""}, {"token": "x"}, {"token": "elsewhere|boot|pid/1/2"}])
def test_of_another_machines_run_nothing_is_known(holder: dict[str, Any]) -> None:
    assert not run.is_dead(holder)


def test_another_boot_or_container_is_another_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    this = run.identify_run()
    monkeypatch.setattr(os, "readlink", lambda _unused: "pid:[1]")
    assert run.identify_run()["controller"] != this["controller"]
    assert not run.is_dead(this)
