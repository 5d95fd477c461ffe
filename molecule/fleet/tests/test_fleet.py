"""One application on two hosts: both get a release, or none does. The tests run in the order of this file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.load.client import Lane, Load, Target
from ansible_collections.flaskops.server.tests.support import deploying, visitor

HOSTS = deploying.addresses()
APP = deploying.inventory_apps()["probe"]
#: The host on which a release fails, and the one on which the same release is well.
BAD, GOOD = sorted(HOSTS)

#: As variants/ of the probe, but ill only where a file of the host says so.
ILL_BY_HOST = '''\
"""Is ill on some hosts."""

from pathlib import Path


def health() -> tuple[str, int]:
    """Ask the host."""
    ill = Path(__file__).with_name("instance") / "ill"
    return ("the disk of this host is slow", 500) if ill.exists() else ("ok", 200)
'''


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line that is seen whether the test passes or not."""

    def function(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", end="", flush=True)

    return function


def deploy(source: Path, **more: Any) -> deploying.Run:
    variables = more.pop("variables", {})
    return deploying.playbook("deploy", apps=[{**APP, "source": {"path": str(source)}, **more}], **variables)


def state() -> dict[str, deploying.Found]:
    return {name: deploying.on_host(address) for name, address in HOSTS.items()}


def versions() -> set[str]:
    return {visitor.get(visitor.address(name), "probe.test", "/version").json()["version"] for name in HOSTS}


def main_pids() -> dict[str, str]:
    return {
        name: deploying.shell(address, f"systemctl show --value --property=MainPID probe@{state()[name].live}.service")
        for name, address in HOSTS.items()
    }


def commands() -> list[str]:
    """Return the releases whose commands ran, on any host."""
    ran = [
        deploying.shell(address, "cat /srv/probe/shared/instance/commands 2>&-", check=False)
        for address in HOSTS.values()
    ]
    return "\n".join(ran).split()


def nothing_changed(before: dict[str, deploying.Found], pids: dict[str, str]) -> None:
    """Make sure that every host serves what it did, and that nothing of the refused release is left but the record."""
    for name, now in state().items():
        then = before[name]
        assert (now.live, now.releases, now.venvs, now.home) == (then.live, then.releases, then.venvs, then.home), name
        assert now.instances == {now.live: "active"} and now.runtime == [now.live] and now.drop_ins == then.drop_ins
        assert now.lock is None
        assert [entry["result"] for entry in now.record if entry["result"] == "live"] == ["live"] * len(
            [entry for entry in then.record if entry["result"] == "live"]
        )
    assert main_pids() == pids


def test_both_hosts_started_alike() -> None:
    there = state()
    assert len({found.live for found in there.values()}) == 1
    assert commands() == [there[GOOD].live]


def test_a_release_that_fails_on_one_host_goes_live_on_neither(tmp_path: Path, say: Callable[[str], None]) -> None:
    source = deploying.probe(tmp_path, "2")
    (source / "behaviour.py").write_text(ILL_BY_HOST)
    deploying.shell(HOSTS[BAD], "touch /srv/probe/shared/instance/ill")
    before, pids, ran = state(), main_pids(), commands()
    lanes = [Lane("short", "/version", 1), Lane("keep-alive", "/version", 1)]
    loads = [Load(Target(visitor.address(name), 443, tls=True, name="probe.test"), lanes, rate=20) for name in HOSTS]
    for load in loads:
        load.start()
    run = deploy(source)
    for load in loads:
        say(f"while it failed in {run.seconds:.1f} s: {load.finish()}")
        assert load.summary.failed == 0 and list(load.summary.versions) == ["1"]

    assert run.code != 0
    nothing_changed(before, pids)
    assert versions() == {"1"} and commands() == ran
    # The host that refused says why in the app's own words; the other one says which host it was.
    said = deploying.message(run, BAD)
    message = re.match(rf"probe on {BAD}: release ([0-9a-f]{{12}}) answered GET /healthz with 500, expected 200", said)
    assert message and "the disk of this host is slow" in said, said
    assert deploying.message(run, GOOD).startswith(f"Nothing goes live here: {BAD} failed")
    refused = state()[BAD].record[-1]
    assert (refused["release"], refused["result"], refused["step"]) == (message[1], "failed", "verify")


def test_a_good_release_goes_live_on_both(tmp_path: Path, say: Callable[[str], None]) -> None:
    """The very release that failed: its host has been mended since, and one host after the other goes live."""
    source = deploying.probe(tmp_path, "2")
    (source / "behaviour.py").write_text(ILL_BY_HOST)
    refused = state()[BAD].record[-1]["release"]
    deploying.shell(HOSTS[BAD], "rm /srv/probe/shared/instance/ill")
    ran = commands()
    run = deploy(source, variables={"flask_batch": 1})
    assert run.code == 0, run.output
    say(f"went live on both, one by one, in {run.seconds:.1f} s")
    assert versions() == {"2"}
    assert {found.live for found in state().values()} == {refused}
    assert sorted(commands()) == sorted([*ran, refused])
    assert {found.lock for found in state().values()} == {None}


def test_a_release_command_that_fails_keeps_the_old_release_everywhere(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    before, pids, ran = state(), main_pids(), commands()
    run = deploy(
        deploying.probe(tmp_path, "3"),
        release_commands=[*APP["release_commands"], "echo no such column: tea.price >&2; exit 3"],
    )
    assert run.code != 0
    say(f"failed in {run.seconds:.1f} s")
    nothing_changed(before, pids)
    assert versions() == {"2"}
    # The first command ran, on one host only; the second failed, and said why.
    assert len(commands()) == len(ran) + 1
    said = {name: deploying.message(run, name) for name in HOSTS}
    (failed,) = [name for name, text in said.items() if text.startswith(f"probe on {name}: release")]
    assert "failed a command of release_commands" in said[failed] and "no such column: tea.price" in said[failed]
    (other,) = set(HOSTS) - {failed}
    assert said[other].startswith(f"Nothing goes live here: {failed} failed")


def test_a_host_out_of_reach_keeps_the_release_from_the_others(tmp_path: Path) -> None:
    before, pids = state(), main_pids()
    gone = deploying.playbook(
        "deploy",
        "--inventory=" + str(unreachable(tmp_path)),
        apps=[{**APP, "source": {"path": str(deploying.probe(tmp_path, "4"))}}],
    )
    assert gone.code != 0
    nothing_changed(before, pids)
    assert versions() == {"2"}
    assert "unreachable=1" in gone.output
    for name in HOSTS:
        assert deploying.message(gone, name).startswith("Nothing goes live here: gone failed")


def unreachable(directory: Path) -> Path:
    """Write an inventory of one host that nobody can reach."""
    inventory = directory / "gone.yml"
    inventory.write_text("all: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 1, ansible_connection: ssh}}}\n")
    return inventory


def test_afterwards_a_deploy_with_nothing_to_do_changes_nothing(tmp_path: Path) -> None:
    source = deploying.probe(tmp_path, "2")
    (source / "behaviour.py").write_text(ILL_BY_HOST)
    run = deploy(source)
    assert run.code == 0, run.output
    assert re.findall(r"changed=(\d+)", run.output) == ["0"] * len(HOSTS), run.output
