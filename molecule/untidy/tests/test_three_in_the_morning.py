# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When something is wrong already: a first release that fails, two apps, files that are gone, a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying

[HOST] = deploying.addresses().values()


def app(directory: Path, name: str, version: str = "1", **more: Any) -> dict[str, Any]:
    """The probe under another name, at a domain of that name."""
    source = deploying.probe(directory / name, version=version)
    return deploying.probe_app(source, name=name, domains=[f"{name}.test"], workers=1, **more)


def served(name: str) -> str:
    """Return what visitors get, or the status where that is no page."""
    status, body = deploying.fetch(HOST, host=f"{name}.test")
    return body.strip() if status == 200 else str(status)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Two apps that are live on the host, each with an earlier release; as they are in the inventory."""
    directory = tmp_path_factory.mktemp("pair")
    for version in ("1", "2"):
        apps = [app(directory, name, version) for name in ("ann", "ben")]
        run = deploying.playbook("site" if version == "1" else "deploy", apps=apps)
        assert run.code == 0, run.output
    assert (served("ann"), served("ben")) == ("probe 2", "probe 2")
    return apps


# -- one app of several ------------------------------------------------------------------------------------------------


def test_a_rollback_of_several_apps_wants_to_know_which(pair: list[dict[str, Any]]) -> None:
    run = deploying.playbook("rollback", apps=pair)
    assert run.code == 2
    assert "Several apps are on these hosts: ann, ben. Choose one with -e app=ann, or all" in run.words
    assert (served("ann"), served("ben")) == ("probe 2", "probe 2")


def test_one_app_goes_back_and_forward_alone(pair: list[dict[str, Any]], tmp_path: Path) -> None:
    run = deploying.playbook("rollback", apps=pair, app="ben")
    assert run.code == 0, run.output
    assert (served("ann"), served("ben")) == ("probe 2", "probe 1")
    # The other one cannot even be deployed at this moment.
    broken = {**pair[0], "source": {"path": str(deploying.probe(tmp_path, "3", "import_error.py"))}}
    run = deploying.playbook("deploy", apps=[broken, pair[1]], app="ben")
    assert run.code == 0, run.output
    assert (served("ann"), served("ben")) == ("probe 2", "probe 2")
    status = deploying.playbook("status", apps=pair, app="ben")
    assert "ben: " in status.output and "ann: " not in status.output


@pytest.mark.parametrize("playbook", ["rollback", "site"])
def test_an_app_that_is_not_there_is_refused(pair: list[dict[str, Any]], playbook: str) -> None:
    run = deploying.playbook(playbook, apps=pair, app="bem")
    assert run.code == 2
    assert "No host of this run has an app of that name: bem (did you mean ben?). Apps here: ann, ben." in run.words


@pytest.mark.parametrize("playbook", ["deploy", "status"])
def test_an_inventory_without_apps_is_refused(playbook: str) -> None:
    run = deploying.playbook(playbook, apps=[], flask_app=[{"name": "ann"}])
    assert run.code == 2
    assert "flask_apps is empty or not set. They have flask_app: did you mean flask_apps?" in run.words


def test_an_app_that_cannot_be_packed_leaves_nothing_of_the_others(pair: list[dict[str, Any]], tmp_path: Path) -> None:
    """The first one is verified and waits when the second is refused, before its host hears of it."""
    changed = app(tmp_path, "ann", "3")
    run = deploying.playbook("deploy", apps=[changed, {**pair[1], "source": {"git": str(tmp_path / "nowhere")}}])
    assert run.code == 2
    found = deploying.on_host(HOST, "ann")
    assert (found.lock, found.instances) == (None, {found.live: "active"})
    assert (served("ann"), served("ben")) == ("probe 2", "probe 2")


# -- the first release -------------------------------------------------------------------------------------------------


def test_a_first_release_that_fails_leaves_a_way_that_ends_with_visitors(tmp_path: Path) -> None:
    """Nothing is live on the host yet: nginx is there all the same, so a deploy after the mistake is seen."""
    first = app(tmp_path, "newborn")
    broken = {**first, "source": {"path": str(deploying.probe(tmp_path, "0", "import_error.py"))}}
    # The apps of other tests are not there for the moment.
    deploying.shell(HOST, "for live in /srv/*/live; do mv -T $live $live.aside; done")
    try:
        run = deploying.playbook("site", apps=[broken])
    finally:
        deploying.shell(HOST, "for aside in /srv/*/live.aside; do mv -T $aside ${aside%.aside}; done")
    assert run.code != 0
    assert "Next: fix it, then run: ansible-playbook -i INVENTORY flaskops.server.site" in run.words
    assert served("newborn") == "502"
    assert deploying.playbook("deploy", apps=[first]).code == 0
    assert served("newborn") == "probe 1"


def test_a_deploy_of_an_app_that_nginx_does_not_lead_to_says_so(pair: list[dict[str, Any]], tmp_path: Path) -> None:
    """Beside one that is live, nginx changes when the new release is good, and not before."""
    hidden = app(tmp_path, "hidden")
    broken = {**hidden, "source": {"path": str(deploying.probe(tmp_path, "0", "import_error.py"))}}
    assert deploying.playbook("site", apps=[pair[0], broken]).code != 0
    run = deploying.playbook("deploy", apps=[hidden])
    assert run.code == 0, run.output
    assert (
        "hidden: no nginx site on this host points to it: if nothing else does, visitors cannot reach it. Next: ansible-playbook"
        in (run.words)
    )
    assert "no nginx site on this host points to it" in deploying.playbook("status", apps=[hidden]).words
    run = deploying.playbook("site", apps=[hidden])
    assert run.code == 0 and "no nginx site" not in run.output
    assert served("hidden") == "probe 1"


# -- a live release whose files are gone -------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["$(readlink -f live)", "live/app/probe.py"])
def test_a_live_release_whose_files_are_gone_is_made_again(pair: list[dict[str, Any]], gone: str) -> None:
    deploying.shell(HOST, f"cd /srv/ben && rm -rf {gone}")
    status = deploying.playbook("status", apps=pair, app="ben")
    assert "damaged: " in status.words
    check = deploying.playbook("deploy", "--check", apps=pair, app="ben")
    assert check.code == 0 and "it is live, but damaged: " in check.words
    run = deploying.playbook("deploy", apps=pair, app="ben")
    assert run.code == 0, run.output
    assert served("ben") == "probe 2"
    assert "damaged: " not in deploying.playbook("status", apps=pair, app="ben").words
    again = deploying.playbook("deploy", apps=pair, app="ben")
    assert again.code == 0 and "changed=0" in again.output


# -- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(pair: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The app ``ann`` on a file system of its own without a free byte, its record at the end of a block."""
    deploying.shell(
        HOST,
        """set -e
        systemctl stop ann
        mkdir /srv/ann.disk && mount -t tmpfs -o size=300m tmpfs /srv/ann.disk
        cp -a /srv/ann/. /srv/ann.disk/ && mount --bind /srv/ann.disk /srv/ann
        systemctl start ann
        size=$(stat -c %s /srv/ann/deploys.jsonl)
        printf '{"note": "%s"}\\n' "$(head -c $((8192 - size - 13)) /dev/zero | tr '\\0' x)" >> /srv/ann/deploys.jsonl
        test $(($(stat -c %s /srv/ann/deploys.jsonl) % 4096)) = 0
        dd if=/dev/zero of=/srv/ann/filler bs=4096 2>/dev/null || true
        """,
    )
    deploying.wait_until("ann answers", lambda: served("ann") == "probe 2")
    yield pair
    deploying.shell(HOST, "rm -f /srv/ann/filler")


def test_a_rollback_works_with_no_byte_free(full_disk: list[dict[str, Any]]) -> None:
    record = deploying.shell(HOST, "cat /srv/ann/deploys.jsonl")
    run = deploying.playbook("rollback", apps=full_disk, app="ann")
    assert run.code == 0, run.output
    assert "deploys.jsonl could not be written (No space left on device)" in run.words
    assert served("ann") == "probe 1"
    # Nothing was written by halves.
    assert deploying.shell(HOST, "cat /srv/ann/deploys.jsonl") == record
    deploying.shell(HOST, "rm -f /srv/ann/filler")
    assert deploying.playbook("deploy", apps=full_disk, app="ann").code == 0
    assert [line.get("action") for line in deploying.on_host(HOST, "ann").record][-2:] == ["rollback", "deploy"]


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_lock_that_anybody_could_make_stops_nobody(pair: list[dict[str, Any]]) -> None:
    planted = (
        '{"token": "x", "who": "nobody", "pid": 1, "since": 0, "touched": 9999999999999, "created": true,'
        ' "release": "../../../../root/precious", "verified": "x.service.d/../ann@*"}'
    )
    deploying.shell(HOST, f"umask 0; echo '{planted}' > /run/lock/flaskops-ben.json; chown nobody /run/lock/flaskops-*")
    run = deploying.playbook("deploy", apps=pair, app="ben")
    assert run.code == 0, run.output
    assert deploying.shell(HOST, "stat -c '%a %U' /run/flaskops") == "700 root"
    deploying.shell(HOST, "rm /run/lock/flaskops-ben.json")
