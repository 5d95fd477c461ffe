# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Virtualenvs of releases that are there: commands in them, their processes, and when they go."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv import Virtualenv


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An app of the name of the user who runs this, for whom a command can run."""
    return Layout(pwd.getpwuid(os.getuid()).pw_name, tmp_path)


def release(layout: Layout, name: str, venv: str | None) -> None:
    home = layout.release(name)
    home.mkdir(parents=True)
    (home / "release.json").write_text("{}")
    if venv:
        (layout.venvs / venv / "bin").mkdir(parents=True, exist_ok=True)
        os.symlink(f"../../venvs/{venv}", home / "venv")


def left(layout: Layout) -> list[str]:
    return sorted(os.listdir(layout.venvs))


def test_virtualenvs_stay_as_long_as_a_release_uses_them(layout: Layout) -> None:
    for name, venv in (("aaa", "one"), ("bbb", "two"), ("ccc", "two"), ("ddd", "three")):
        release(layout, name, venv)
    runtime = Virtualenv(layout)
    runtime.prune(["aaa", "bbb", "ddd"])
    assert left(layout) == ["one", "three", "two"]
    runtime.prune(["ccc"])
    assert left(layout) == ["two"]
    runtime.prune([])
    assert left(layout) == []


def test_releases_that_are_images_have_no_virtualenv(layout: Layout) -> None:
    release(layout, "image", None)
    release(layout, "aaa", "one")
    (layout.venvs / "unused").mkdir()
    Virtualenv(layout).prune(["image", "aaa"])
    assert left(layout) == ["one"]
    Virtualenv(layout).prune(["image"])
    assert left(layout) == []


def test_an_app_that_never_had_a_virtualenv(layout: Layout) -> None:
    release(layout, "image", None)
    Virtualenv(layout).prune(["image"])
    assert not layout.venvs.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_command_runs_as_the_app_where_its_code_is(layout: Layout) -> None:
    (layout.release("aaa") / "app").mkdir(parents=True)
    ask = "import os; print(os.getcwd(), os.getuid(), os.getgid(), os.getgroups(), oct(os.umask(0)), os.environ['KEY'])"
    variables = {"KEY": "value"}
    command, options = Virtualenv(layout).command("aaa", [sys.executable, "-c", ask], variables)
    done = subprocess.run(command, **options, capture_output=True, text=True, check=True)
    me = pwd.getpwnam(layout.name)
    where = layout.release("aaa") / "app"
    assert done.stdout.strip() == f"{where} {me.pw_uid} {me.pw_gid} [] 0o7 value"
    assert options["extra_groups"] == [], "not those of whoever deploys"
    assert options["env"] == variables and options["env"] is not variables


def test_systemds_process_is_the_servers(layout: Layout) -> None:
    assert Virtualenv(layout).main_pid("aaa", 42) == 42
