# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Images of releases that are there: commands in them, their processes, and when they go."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from engine import DIGEST, ENGINES, MINE, PASSWORD, Host


@ENGINES
def test_images_go_with_their_releases(host: Host, engine: str) -> None:
    (host.bin / ("docker" if engine == "podman" else "podman")).unlink()
    others = {
        "localhost/flaskops/shop-admin:old": "5",
        "localhost/flaskops/shopping:old": "6",
        "docker.io/shop:old": "7",
    }
    host.tell(images={f"{MINE}:old": "1", f"{MINE}:older": "2", f"{MINE}:aaa": "3", f"{MINE}:bbb": "4", **others})
    host.image.prune(["aaa", "bbb"])
    assert host.names == sorted([f"{MINE}:aaa", f"{MINE}:bbb", *others])
    assert {call[0] for call in host.now()["calls"]} == {engine}


def test_an_image_goes_from_either_engine(host: Host) -> None:
    host.tell(images={f"{MINE}:old": "1"})
    host.image.prune([])
    assert [call[0] for call in host.called("ls")] == ["podman", "docker"]


@pytest.mark.parametrize(
    "more", [{}, {f"{MINE}:aaa": "1"}, {"localhost/flaskops/blog:ccc": "1"}, {"reg/shop:1.4": "1"}]
)
def test_an_image_that_was_fetched_by_its_digest_goes_when_nobody_else_has_it(host: Host, more: dict[str, str]) -> None:
    host.tell(images={f"{MINE}:old": "1", DIGEST: "1", **more})
    host.image.prune(["aaa"])
    assert host.names == sorted([DIGEST, *more] if more else [])


def test_an_image_that_cannot_go_yet_stops_nothing(host: Host) -> None:
    host.tell(images={f"{MINE}:old": "1", f"{MINE}:older": "2"}, used=[f"{MINE}:old"])
    host.image.prune([])
    assert host.names == [f"{MINE}:old"]


def test_without_an_engine_there_is_nothing_to_remove(host: Host) -> None:
    for engine in ("podman", "docker"):
        (host.bin / engine).unlink()
    host.image.prune([])
    assert host.now()["calls"] == []


def test_the_servers_process_is_asked_for_once(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "docker")
    host.tell(pids=[[str(os.getpid())]])
    assert [host.image.main_pid("aaa", 7) for _unused in range(3)] == [os.getpid()] * 3
    assert host.now()["calls"] == [["docker", "container", "inspect", "--format", "{{.State.Pid}}", "shop-aaa"]]


def test_a_process_that_is_gone_is_asked_for_again(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "podman")
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    host.tell(pids=[[str(ended.pid)], [str(os.getpid())]])
    assert [host.image.main_pid("aaa", 7) for _unused in range(2)] == [ended.pid, os.getpid()]


def test_a_container_that_is_not_there_has_no_process(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "podman")
    host.tell(pids=[["Error: no such container shop-aaa", 125], [str(os.getpid())]])
    assert [host.image.main_pid("aaa", 7) for _unused in range(2)] == [0, os.getpid()]
    assert host.image.main_pid("aaa", 0) == 0, "without its client it has ended"


def test_a_command_runs_in_a_container_of_its_own_and_nothing_is_left_of_it(host: Host) -> None:
    host.serve(host.layout.release("aaa"), "docker")
    run = str(host.layout.release("aaa") / "serve/run")
    arguments, options = host.image.command("aaa", ["flask", "db upgrade"], {"KEY": PASSWORD})
    assert arguments == ["/bin/sh", run, "shop-aaa-command", "flask", "db upgrade"]
    assert PASSWORD not in json.dumps(options), "the release's own variables are in its files"
    host.image.ended("aaa")
    assert host.now()["calls"] == [["docker", "rm", "--force", "shop-aaa-command"]]
