# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Apps that are called like something the host has: refused before anything is touched."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from ansible_collections.flaskops.server.tests.support import deploying

HOST = min(deploying.addresses())
NEW = "acctnew"
TAKEN = ["shopuser", "shadow", "staff", "acctunit", "acctdir", "acctlive"]

#: What the host has under the names of apps.
BEFORE = """
useradd --create-home --shell /bin/bash --comment 'Site admin' --groups sudo shopuser
echo 'shopuser:unspoken' | chpasswd
printf '[Service]\\nExecStart=/bin/true\\n' > /etc/systemd/system/acctunit.service
mkdir /srv/acctdir /srv/acctlive && chown 1500 /srv/acctdir && echo precious > /srv/acctlive/live
"""
AFTER = f"""
userdel --remove shopuser 2>/dev/null; userdel {NEW} 2>/dev/null; groupdel {NEW} 2>/dev/null
rm -rf /etc/systemd/system/acctunit.service /srv/acctdir /srv/acctlive /srv/{NEW} /root/login.defs.kept
true
"""
LOOK = """
for file in passwd group shadow gshadow; do cat /etc/$file; done
ls -lAR --time-style=full-iso /etc/systemd/system /etc/nginx
stat --format='%n %F %a %u %g %y' /srv /srv/* /srv/acct*/* /home/*
"""


def shell(script: str) -> str:
    return deploying.shell(deploying.addresses()[HOST], script)


def ansible(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command[0], "--inventory", deploying.inventory(), *command[1:]],
        cwd=deploying.ROOT,
        env=deploying.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def check(*names: str) -> dict[str, Any]:
    """Run the module for some names and return its result."""
    done = ansible("ansible", HOST, "--become", "-m", "flaskops.server.check_host", "-a", json.dumps({"names": names}))
    _unused, found, said = done.stdout.partition(" =>")
    assert found, done.stdout + done.stderr
    return {key: value for key, value in yaml.safe_load(said).items() if key != "ansible_facts"}


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    shell(AFTER)
    shell(BEFORE)
    yield
    shell(AFTER)


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_taken_names_are_refused_all_at_once(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    source = deploying.probe(tmp_path)
    before = shell(LOOK)
    apps = [deploying.probe_app(source, name=name, domains=[f"{name}.test"]) for name in [NEW, *TAKEN]]
    run = deploying.playbook("site", *arguments, apps=apps)
    assert run.code != 0
    message = deploying.message(run, HOST)
    assert message.startswith(f"{len(TAKEN)} things are in the way on this host, nothing was touched:")
    for part in (
        "shopuser: an account of that name is on this host (uid ",
        "shadow: a group of that name is on this host (gid 42)",
        "staff: a group of that name is on this host (gid 50)",
        "acctunit: /etc/systemd/system/acctunit.service is on this host",
        "acctdir: /srv/acctdir belongs to the user with the number 1500",
        "acctlive: /srv/acctlive/live is there and is no link",
    ):
        assert f"  - {part}" in message
    assert NEW not in message and "Site admin" not in message
    assert shell(LOOK) == before


def test_an_app_that_is_deployed_passes() -> None:
    found = check("probe", NEW)
    assert "probe" in found.pop("live")
    assert found == {"changed": False, "missing": [NEW]}


def test_names_of_the_system() -> None:
    names = ["sudo", "disk", "users", "systemd-journald", "multi-user", "rescue", "systemd", "lock", "debian-any"]
    mistakes = check(*names)["errors"]
    assert {mistake.partition(":")[0] for mistake in mistakes} == {*names} - {"debian-any"}


def test_an_app_that_got_into_a_group_of_administrators() -> None:
    shell("usermod --append --groups sudo,audio probe")
    try:
        (mistake,) = check("probe")["errors"]
        assert "its account is in the group sudo, so that" in mistake
    finally:
        shell("gpasswd --delete probe sudo")
    try:
        assert "probe" in check("probe")["live"], "audio was given to it on purpose"
    finally:
        shell("gpasswd --delete probe audio")


def test_a_hardened_host_makes_an_account_with_a_group_of_its_own(tmp_path: Path) -> None:
    """Where new accounts get no group of their own, and nobody but root reads what root makes."""
    play = {
        "hosts": HOST,
        "become": True,
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {"name": "flaskops.server.app", "tasks_from": "prepare"},
                "vars": {"app_app": {"name": NEW}},
            }
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    shell(
        "cp /etc/login.defs /root/login.defs.kept && sed -i 's/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/; s/^UMASK.*/UMASK 077/' "
        "/etc/login.defs"
    )
    try:
        for count in (3, 0):
            done = ansible("ansible-playbook", str(tmp_path / "play.yml"))
            assert done.returncode == 0, done.stdout
            found = re.search(r"changed=(\d+)", done.stdout)
            assert found and (int(found.group(1)) > 0) is (count > 0), done.stdout
    finally:
        shell("cp /root/login.defs.kept /etc/login.defs")
    assert shell(f"id -gn {NEW}; id -Gn www-data | grep -ow {NEW}") == f"{NEW}\n{NEW}"
    assert shell(f"stat --format='%a %U %G' /srv/{NEW} /srv/{NEW}/shared") == f"750 root {NEW}\n770 {NEW} {NEW}"
    found = check(NEW)
    assert NEW not in found.pop("live")
    assert found == {"changed": False, "missing": []}
