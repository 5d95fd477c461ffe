# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploys that go well, under load: again and again, from another server and back to it."""

from __future__ import annotations

import pytest
from ansible_collections.flaskops.server.plugins.plugin_utils.servers import SERVERS
from ansible_collections.flaskops.server.tests.support import crowd, deploying, outcome

#: More than the releases that are kept, so that the oldest are deleted under load too.
REDEPLOYS = 10 if outcome.first_of_its_runtime(deploying.inventory_apps()["probe"]["server"]) else 6


def deploy(*apps: dict[str, object]) -> deploying.Run:
    run = deploying.playbook("deploy", apps=apps)
    assert run.code == 0, run.output
    return run


def assert_serves(version: str) -> None:
    """Every host serves a version, and nothing else runs."""
    for host, address in deploying.addresses().items():
        here = outcome.settled(host)
        assert here.instances == {here.live: "active"}
        assert deploying.fetch(address) == (200, f"probe {version}\n")


def test_redeploys_under_load(make: deploying.Make, live: str, capsys: pytest.CaptureFixture[str]) -> None:
    versions = [str(number) for number in range(101, 101 + REDEPLOYS)]
    seconds = []
    with crowd.visiting("localhost", tls=False) as loads:
        for version in versions:
            seconds.append(deploy(make(version)).seconds)
    assert_serves(versions[-1])
    for host, load in loads.items():
        with capsys.disabled():
            print(f"\n    {host}: {load.summary}; {', '.join(f'{took:.1f}' for took in seconds)} s", end="")
        crowd.went_well(load.summary)
        assert list(load.summary.versions) == [live, *versions]
        assert load.summary.requests > 50 * REDEPLOYS


def test_the_same_again_does_nothing(make: deploying.Make, found: dict[str, deploying.Found]) -> None:
    app = make("111")
    deploy(app)
    before = outcome.all_settled()
    again = deploy(app)
    assert again.output.count("changed=0") == len(found), again.output
    assert outcome.look() == before


def test_a_move_from_another_server_and_back(make: deploying.Make, server: str) -> None:
    """To Gunicorn and back by a rollback, then there again by a deploy and back by another; Gunicorn itself, to uWSGI."""
    other = next(name for name in SERVERS if name != server)
    deploy(make("120"))
    with crowd.visiting("localhost", tls=False) as loads:
        deploy(make("121", server=other))
        back = deploying.playbook("rollback")
        assert back.code == 0, back.output
        assert_serves("120")
        deploy(make("122", server=other))
        deploy(make("123"))
    for load in loads.values():
        crowd.went_well(load.summary)
        assert list(load.summary.versions) == ["120", "121", "122", "123"]
    assert_serves("123")
