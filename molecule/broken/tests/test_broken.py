# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every way in which a deploy can go wrong: what is said, what still serves, and that nothing is left behind.

The tests build on each other: first the inventory's release is live alone, then a second one, which all others fail to
replace. Each deploy runs on both hosts at once, and visitors come all the while.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, outcome

HOSTS = sorted(deploying.addresses())
TOKEN = "unspoken-0123456789"
FIRST, SECOND = "probe 1\n", "probe 2\n"
#: Seconds that a release has to prove itself: as many as a busy machine may need, and few for those that never will.
PATIENCE, IMPATIENCE = 60, 8


@pytest.fixture(scope="module")
def ids() -> dict[str, str]:
    """The ids of the good releases, by version."""
    return {}


@pytest.fixture
def found() -> dict[str, deploying.Found]:
    """What there is on each host as the test begins, when what the test before it stopped has ended."""
    return {host: outcome.settled(host) for host in HOSTS}


def app(source: Path, timeout: int = PATIENCE, **more: Any) -> dict[str, Any]:
    """The probe as this scenario deploys it."""
    health = {"path": "/healthz", "status": 200, "timeout": timeout}
    return deploying.probe_app(source, secrets={"PROBE_TOKEN": TOKEN}, **{"health": health, **more})


def second(directory: Path, **more: Any) -> dict[str, Any]:
    """The second good release; the same wherever it is copied to."""
    return app(deploying.probe(directory, version="2", variant="ill_by_file.py"), **more)


# -- one release, nothing to go back to --------------------------------------------------------------------------------


def test_the_inventorys_release_serves(found: dict[str, deploying.Found], ids: dict[str, str]) -> None:
    for host, address in deploying.addresses().items():
        assert found[host].instances == {found[host].live: "active"}
        assert deploying.fetch(address) == (200, FIRST)
        assert deploying.ask_live(address) == (200, FIRST)
    assert len({here.live for here in found.values()}) == 1
    ids["1"] = str(found[HOSTS[0]].live)


def test_a_rollback_without_an_earlier_release_says_so(found: dict[str, deploying.Found], ids: dict[str, str]) -> None:
    run = deploying.playbook("rollback")
    assert run.code != 0
    for host in HOSTS:
        message = deploying.message(run, host)
        assert message.startswith(f"probe on {host}: cannot be rolled back: no earlier good release is on this host.")
        assert f"Still serving: {ids['1']} (" in message
        assert "Next: " in message
        outcome.assert_only_live(found[host], outcome.look()[host])
        assert deploying.fetch(deploying.addresses()[host]) == (200, FIRST)


def test_a_good_release_goes_live_and_tells_no_secret(tmp_path: Path, ids: dict[str, str]) -> None:
    with deploying.visitors() as visits:
        run = deploying.playbook("deploy", "-vvv", "--diff", apps=[second(tmp_path)])
    assert run.code == 0, run.output
    outcome.assert_serving(visits, FIRST, SECOND)
    outcome.assert_no_secret(run, TOKEN)
    ids["2"] = str(outcome.look()[HOSTS[0]].live)
    assert ids["2"] != ids["1"]
    for host in HOSTS:
        here = outcome.settled(host)
        assert (here.live, here.instances) == (ids["2"], {ids["2"]: "active"})
        # That the secret reached the process shows that it was there to be told.
        _unused, said = deploying.ask_live(deploying.addresses()[host], "/setting/PROBE_TOKEN")
        assert TOKEN in said


def test_nothing_to_do_is_done(tmp_path: Path, found: dict[str, deploying.Found]) -> None:
    run = deploying.playbook("deploy", apps=[second(tmp_path)])
    assert run.code == 0, run.output
    assert "changed=0" in run.output and not re.search(r"changed=[1-9]", run.output)
    for host in HOSTS:
        outcome.assert_only_live(found[host], outcome.look()[host])


# -- secrets -------------------------------------------------------------------------------------------------------------


def test_a_secret_in_the_apps_own_words_is_hidden(tmp_path: Path, found: dict[str, deploying.Found]) -> None:
    source = deploying.probe(tmp_path, version="3", variant="tells_secret.py")
    run = deploying.playbook("deploy", "-vvv", "--diff", apps=[app(source)])
    assert run.code != 0
    outcome.assert_no_secret(run, TOKEN)
    for host in HOSTS:
        assert "RuntimeError: cannot log in with ********" in deploying.message(run, host)
        outcome.assert_only_live(found[host], outcome.look()[host])


def test_no_secret_can_be_seen_on_the_host() -> None:
    for address in deploying.addresses().values():
        live = deploying.on_host(address).live
        seen = deploying.shell(
            address,
            f"systemctl show probe@{live}.service; systemctl cat probe@{live}.service; ps -eo args; journalctl --no-pager"
            # What the app itself wrote to its journal in the test before is the app's doing.
            " --output=cat _SYSTEMD_UNIT=nginx.service + SYSLOG_IDENTIFIER=systemd + SYSLOG_IDENTIFIER=python3",
        )
        assert f"probe@{live}" in seen
        assert TOKEN not in seen
        # root's ps shows the environment of every process to root alone; nobody else may read a file with the secret.
        readable = deploying.shell(
            address, f"runuser -u nobody -- grep -rlsF {TOKEN} /srv /etc /run /var/log /var/cache /tmp || true"
        )
        assert readable == ""
        assert deploying.shell(address, f"runuser -u probe -- grep -rlsF {TOKEN} /srv /etc /run || true") == ""


# -- going back --------------------------------------------------------------------------------------------------------


def test_a_rollback_passes_over_what_failed(tmp_path: Path, ids: dict[str, str]) -> None:
    status = deploying.playbook("status")
    assert status.code == 0
    assert status.output.count(f"a rollback goes to {ids['1']}") == len(HOSTS)
    with deploying.visitors() as visits:
        run = deploying.playbook("rollback")
    assert run.code == 0, run.output
    outcome.assert_serving(visits, SECOND, FIRST)
    for host in HOSTS:
        here = outcome.settled(host)
        assert (here.live, here.instances, here.lock) == (ids["1"], {ids["1"]: "active"}, None)
        assert (here.record[-1]["action"], here.record[-1]["result"]) == ("rollback", "live")


def test_a_release_is_chosen_by_its_id(ids: dict[str, str]) -> None:
    with deploying.visitors() as visits:
        run = deploying.playbook("rollback", release=ids["2"])
    assert run.code == 0, run.output
    outcome.assert_serving(visits, FIRST, SECOND)
    for host in HOSTS:
        here = outcome.settled(host)
        assert (here.live, here.instances, here.lock) == (ids["2"], {ids["2"]: "active"}, None)


@pytest.mark.parametrize("release", ["0123456789ab", "*", "../live"])
def test_a_release_that_is_not_there_cannot_be_chosen(
    release: str, found: dict[str, deploying.Found], ids: dict[str, str]
) -> None:
    with deploying.visitors() as visits:
        run = deploying.playbook("rollback", release=release)
    assert run.code != 0
    outcome.assert_serving(visits, SECOND)
    for host in HOSTS:
        message = deploying.message(run, host)
        assert f"probe on {host}: release {release} is not on this host" in message
        assert ids["1"] in message and ids["2"] in message
        outcome.assert_only_live(found[host], outcome.look()[host])


def test_an_earlier_release_that_fails_its_proof_is_passed_over_next_time(tmp_path: Path, ids: dict[str, str]) -> None:
    """2 was live, 4 is; 2 cannot be proved any more, so the first rollback fails and the second one goes to 1."""
    source = deploying.probe(tmp_path, version="4")
    assert deploying.playbook("deploy", apps=[app(source)]).code == 0
    before = {host: outcome.settled(host) for host in HOSTS}
    for address in deploying.addresses().values():
        deploying.shell(address, "touch /srv/probe/shared/instance/ill")
    with deploying.visitors() as visits:
        failed = deploying.playbook("rollback")
    assert failed.code != 0
    outcome.assert_serving(visits, "probe 4\n")
    now = outcome.look()
    for host in HOSTS:
        assert "there is instance/ill" in deploying.message(failed, host)
        assert now[host].record[-1]["release"] == ids["2"]
        assert now[host].record[-1]["result"] == "failed"
        assert now[host].live == before[host].live
        assert now[host].instances == {before[host].live: "active"}
        # It was there before, and may be well again.
        assert now[host].releases == before[host].releases
    again = deploying.playbook("rollback")
    assert again.code == 0, again.output
    for host in HOSTS:
        assert outcome.settled(host).live == ids["1"]


# -- two at once -------------------------------------------------------------------------------------------------------


def test_of_two_deploys_at_once_the_second_is_refused(tmp_path: Path) -> None:
    slow = app(deploying.probe(tmp_path, version="5", variant="slow_start.py"), env={"PROBE_SLOW_SECONDS": "8"})
    other = app(deploying.probe(tmp_path, version="6"))
    first = deploying.start("deploy", apps=[slow])
    try:
        deploying.wait_until(
            "the first one starts its release", lambda: all(len(here.instances) > 1 for here in outcome.look().values())
        )
        refused = deploying.playbook("deploy", apps=[other])
    finally:
        done = first.wait()
    assert refused.code != 0
    for host in HOSTS:
        message = deploying.message(refused, host)
        assert re.search(
            rf"probe on {host}: another deploy has the lock: \S+@\S+ \(process {first.process.pid}\), since 20..-..-.. ..:..:..",
            message,
        )
        assert "Next: " in message
    assert done.code == 0, done.output
    for host in HOSTS:
        here = outcome.settled(host)
        assert deploying.ask_live(deploying.addresses()[host]) == (200, "probe 5\n")
        assert (here.instances, here.lock) == ({here.live: "active"}, None)
    assert deploying.playbook("deploy", apps=[other]).code == 0


# -- a wrong inventory -------------------------------------------------------------------------------------------------


@pytest.fixture
def untouched() -> Iterator[None]:
    """Nothing on the hosts changes while the test runs."""
    look_closely = "find /srv /etc /run/flaskops /opt -newer /root/mark -not -path '/run/*/journal*' | sort"
    for address in deploying.addresses().values():
        deploying.shell(address, "touch /root/mark; sleep 0.1")
    yield
    for address in deploying.addresses().values():
        assert deploying.shell(address, look_closely) == ""


@pytest.mark.usefixtures("untouched")
def test_all_errors_are_in_one_message(found: dict[str, deploying.Found]) -> None:
    apps = [
        {
            "name": "My_Shop",
            "source": {"path": "/nonexistent", "gti": "https://git.example.org/shop.git"},
            "wsgi": "shop:create_app()",
            "workers": ["four"],
            "secrets": {"PROBE_TOKEN": [TOKEN]},
        },
        {
            "name": "probe",
            "source": {"path": "/nonexistent", "git": "https://git.example.org/shop.git"},
            "wsgi": "probe",
            "domains": ["probe.example.org"],
            "helth": {"path": "/healthz"},
        },
    ]
    for name in ("deploy", "site"):
        run = deploying.playbook(name, apps=apps)
        assert run.code != 0
        outcome.assert_no_secret(run, TOKEN)
        for host in HOSTS:
            message = deploying.message(run, host)
            assert "7 errors in the inventory, nothing was changed:" in message
            for words in (
                "flask_apps[0].name: expected a string matching [a-z][a-z0-9-]{0,30}",
                "flask_apps[0].source.gti: unknown key, did you mean git?",
                "flask_apps[0].workers: expected a whole number or auto",
                "flask_apps[0].secrets.PROBE_TOKEN: expected a string, a number or a boolean, got a list",
                "flask_apps[1].source: expected exactly one of path, git, archive, package, image, got path and git",
                "flask_apps[1].wsgi: expected ",
                "flask_apps[1].helth: unknown key, did you mean health?",
            ):
                assert message.count(words) == 1, words
    assert outcome.look() == found
