# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role's README says is what its argument specs say, and its example is a playbook that Ansible takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def test_the_readmes_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "tools/role_readmes.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}run: .venv/bin/python tools/role_readmes.py --write"


@pytest.mark.parametrize("role", ROLES)
def test_the_example_gives_the_role_what_it_takes(role: str) -> None:
    (play,) = yaml.safe_load((ROOT / "examples" / "roles" / f"{role}.yml").read_text())
    used = []
    for task in play["tasks"]:
        include = task["ansible.builtin.import_role"]
        name = include["name"].removeprefix("flaskops.server.")
        used.append(name)
        spec = yaml.safe_load((ROOT / "roles" / name / "meta" / "argument_specs.yml").read_text())["argument_specs"]
        options = spec[include.get("tasks_from", "main")].get("options", {})
        result = ArgumentSpecValidator(options).validate(task.get("vars", {}))
        assert not result.error_messages
    assert used[-1] == role


def test_ansible_takes_the_examples() -> None:
    examples = sorted(str(path) for path in (ROOT / "examples" / "roles").glob("*.yml"))
    assert len(examples) == len(ROLES)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections")}
    done = subprocess.run(
        ["ansible-playbook", "--syntax-check", "--inventory", "localhost,", *examples],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
