# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a container runs with. Whether the engines know all of it is what the scenario ``container`` shows."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.servers.container import (
    DEFAULTS,
    NO_LIMITS,
    RESERVED,
    SERVER,
    SETTINGS,
    STOP_TIMEOUT,
    options,
    slice_limits,
)
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.rules import LIMITS

#: Limits that a container has in other words, and one that it has not.
NOT_OF_A_SLICE = {name for name in LIMITS if name.startswith("Limit")} | {"OOMScoreAdjust", "Nice"}


def test_an_option_is_either_free_or_reserved() -> None:
    assert not SETTINGS & set(RESERVED)
    assert set(DEFAULTS) | {STOP_TIMEOUT} <= SETTINGS


def test_what_is_wrong_with_settings() -> None:
    given = {"memory": "1g", "user": "root", "netwrok": "host", "zzzzz": 1, "label": {"a": "b"}, "init": True}
    unknown = "not an option of podman run and docker run"
    assert SERVER.find_errors(given, "c") == [
        "c.user: cannot be set here, the app's own user is used",
        f"c.netwrok: {unknown}, did you mean network?",
        f"c.zzzzz: {unknown}",
        "c.label: expected a text, a number, true or false, or a list of them",
    ]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_what_is_reserved_says_what_to_do_instead(name: str) -> None:
    assert SERVER.find_errors({name: "x"}, "c") == [f"c.{name}: cannot be set here, {RESERVED[name]}"]


@pytest.mark.parametrize("value", ["7", 7.5, True, -1, [7], None])
def test_the_time_to_stop_is_a_number(value: object) -> None:
    assert SERVER.find_errors({STOP_TIMEOUT: value}, "c") == [f"c.{STOP_TIMEOUT}: expected a whole number of seconds"]


def run_with(container: dict[str, Any] | None = None, limits: dict[str, Any] | None = None) -> list[str]:
    return options({"container": container or {}, "limits": limits or {}})


def test_what_a_container_runs_with_by_default() -> None:
    assert run_with() == [
        "--read-only",
        "--tmpfs=/tmp",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--network=host",
        "--log-driver=none",
        # It is systemd that waits.
        "--stop-timeout=0",
    ]


@pytest.mark.parametrize(
    ("settings", "there", "gone"),
    [
        ({"network": "bridge"}, ["--network=bridge"], ["--network=host"]),
        ({"read-only": False}, [], ["--read-only"]),
        ({"tmpfs": None}, [], ["--tmpfs=/tmp"]),
        ({"tmpfs": ["/tmp", "/cache:size=1g"]}, ["--tmpfs=/tmp", "--tmpfs=/cache:size=1g"], []),
        ({"init": True}, ["--init"], []),
        ({"init": False}, [], ["--init"]),
        ({"cpus": 1.5}, ["--cpus=1.5"], []),
        # Nothing, and the number that is false, are values.
        ({"memory-swappiness": 0}, ["--memory-swappiness=0"], []),
        ({"cap-drop": ""}, ["--cap-drop="], ["--cap-drop=all"]),
        ({"dns": []}, [], ["--dns="]),
        ({"label": "two words; $HOME"}, ["--label=two words; $HOME"], []),
        # What is given is how long systemd waits, and not the engine.
        ({"stop-timeout": 90}, ["--stop-timeout=0"], ["--stop-timeout=90"]),
    ],
)
def test_what_an_app_says_comes_in_place_of_it(settings: dict[str, Any], there: list[str], gone: list[str]) -> None:
    listed = run_with(settings)
    assert set(there) <= set(listed)
    assert not set(gone) & set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("limit", "value", "option"),
    [
        ("LimitNOFILE", 4096, "--ulimit=nofile=4096"),
        ("LimitNOFILE", "1024:4096", "--ulimit=nofile=1024:4096"),
        ("LimitNOFILE", "1024:infinity", "--ulimit=nofile=1024:-1"),
        ("LimitCORE", "infinity", "--ulimit=core=-1"),
        ("LimitCORE", 0, "--ulimit=core=0"),
        ("LimitMEMLOCK", "64M", "--ulimit=memlock=67108864"),
        ("LimitFSIZE", "1K:2G", "--ulimit=fsize=1024:2147483648"),
        ("OOMScoreAdjust", -500, "--oom-score-adj=-500"),
    ],
)
def test_limits_of_processes_are_options(limit: str, value: Any, option: str) -> None:
    assert run_with(limits={limit: value})[-1] == option


def test_limits_of_a_slice_are_no_options() -> None:
    assert run_with(limits={"MemoryMax": "1G", "TasksMax": 100, "CPUQuota": "50%"}) == run_with()


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_is_either_the_slices_or_the_containers(name: str) -> None:
    assert slice_limits({name: 1}) == ({} if name in NOT_OF_A_SLICE else {name: 1})
    assert (run_with(limits={name: 1}) != run_with()) == (name in NOT_OF_A_SLICE - set(NO_LIMITS))
