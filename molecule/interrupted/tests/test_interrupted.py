# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploys that are killed at any point, a full disk, a reboot: visitors never notice, and the next deploy converges.

Every test begins and ends with one release live and nothing else running; visitors come all the while.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying, outcome

HOSTS = sorted(deploying.addresses())
#: A build that finds this file waits until it is gone.
HOLD = "/run/hold-the-build"

#: A build backend that needs nothing but Python, so that an installation takes as long as a test wants.
BACKEND = f"""\
import os, time, zipfile


def build_wheel(directory, settings=None, metadata=None):
    open("{HOLD}.seen", "w").close()
    while os.path.exists("{HOLD}"):
        time.sleep(0.1)
    name = "@name@-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("@name@.py", "")
        wheel.writestr("@name@-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: @name@\\nVersion: 1.0\\n")
        tags = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("@name@-1.0.dist-info/WHEEL", tags)
        wheel.writestr("@name@-1.0.dist-info/RECORD", "")
    return name
"""
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "@name@"
version = "1.0"
"""


def on_all(script: str) -> None:
    """Run a shell script on every host."""
    for address in deploying.addresses().values():
        deploying.shell(address, script)


def all_hosts(is_so: Callable[[deploying.Found], Any], app: str = "probe") -> bool:
    return all(is_so(here) for here in outcome.look(app).values())


def good(source: Path, **more: Any) -> dict[str, Any]:
    health = {"path": "/healthz", "status": 200, "timeout": 60}
    return deploying.probe_app(source, **{"health": health, **more})


def heavy(directory: Path, version: str) -> Path:
    """A good release whose installation waits as long as there is a file HOLD."""
    source = deploying.probe(directory, version)
    package = source / "heavy"
    package.mkdir()
    # Of another name each time: what is built already is not built again.
    (package / "backend.py").write_text(BACKEND.replace("@name@", f"heavy{version}"))
    (package / "pyproject.toml").write_text(PROJECT.replace("@name@", f"heavy{version}"))
    with (source / "requirements.txt").open("a") as requirements:
        requirements.write("./heavy\n")
    return source


def slow(directory: Path, version: str, seconds: int) -> dict[str, Any]:
    """A good release that takes a while to start."""
    source = deploying.probe(directory, version, variant="slow_start.py")
    return good(source, env={"PROBE_SLOW_SECONDS": str(seconds)})


def kill_step(address: str, app: str = "probe") -> None:
    """Kill what works for a deploy on a host right now (SIGKILL)."""
    lock = deploying.on_host(address, app).lock
    assert lock is not None
    deploying.shell(address, f"kill -9 {json.loads(lock)['step']['pid']}")


def assert_clean(version: str, app: str = "probe", host: str = "localhost") -> None:
    """Only this version runs, visitors get it, and nothing of what was begun is left."""
    for address in deploying.addresses().values():
        deploying.wait_until("only one instance", lambda: len(deploying.on_host(address, app).instances) == 1)  # noqa: B023
        here = deploying.on_host(address, app)
        assert here.instances == {here.live: "active"}
        assert here.runtime == [here.live]
        assert here.lock is None
        assert not [name for name in (*here.releases, *here.venvs, *here.home) if name.startswith(".")]
        assert set(here.drop_ins) <= set(here.releases)
        assert (here.record[-1]["release"], here.record[-1]["result"]) == (here.live, "live")
        assert deploying.fetch(address, host=host) == (200, f"probe {version}\n")


def assert_served(visits: dict[str, deploying.Visits], *versions: str) -> None:
    """No visitor noticed anything but that the version changed."""
    for host, visit in visits.items():
        assert not visit.failures, host
        assert list(visit.bodies) == [f"probe {version}\n" for version in versions], host


@pytest.fixture
def live() -> str:
    """The version that is live as the test begins."""
    versions = {deploying.fetch(address)[1].split()[1] for address in deploying.addresses().values()}
    assert len(versions) == 1
    assert_clean(version := versions.pop())
    return version


@pytest.fixture
def held() -> Iterator[None]:
    """Builds wait, until the test or its end removes the file."""
    on_all(f"touch {HOLD}; rm -f {HOLD}.seen")
    yield
    on_all(f"rm -f {HOLD}")


def assert_is_staging() -> None:
    """What is killed now is killed in the middle."""
    seen = [deploying.shell(address, f"ls {HOLD}.seen", check=False) for address in deploying.addresses().values()]
    assert seen == [f"{HOLD}.seen"] * len(HOSTS)
    for here in outcome.look().values():
        assert [name for name in here.releases if name.startswith(".staging-")]
        assert [name for name in here.venvs if name.startswith(".build-")]


def wait_for_staging() -> None:
    def begun() -> bool:
        return all(
            deploying.shell(address, f"test -e {HOLD}.seen && echo yes", check=False) == "yes"
            for address in deploying.addresses().values()
        )

    deploying.wait_until("the installation has begun", begun, seconds=60)
    assert_is_staging()


# -- killed ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("held")
def test_killed_on_the_host_in_the_middle_of_staging(tmp_path: Path, live: str) -> None:
    app = good(heavy(tmp_path, "2"))
    with deploying.visitors() as visits:
        run = deploying.start("deploy", apps=[app])
        wait_for_staging()
        for address in deploying.addresses().values():
            kill_step(address)
        assert run.wait().code != 0
        for here in outcome.look().values():
            # The dead run could clean nothing up: what it left is the next one's.
            assert here.lock is not None
            assert [name for name in here.releases if name.startswith(".staging-")]
        on_all(f"rm {HOLD}")
        again = deploying.playbook("deploy", apps=[app])
    assert again.code == 0, again.output
    assert_served(visits, live, "2")
    assert_clean("2")


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(("what", "begun", "version"), [("the process", "30", "31"), ("all its processes", "32", "33")])
def test_the_controller_is_killed_in_the_middle_of_staging(
    what: str, begun: str, version: str, tmp_path: Path, live: str
) -> None:
    with deploying.visitors() as visits:
        run = deploying.start("deploy", apps=[good(heavy(tmp_path, begun))])
        wait_for_staging()
        if what == "the process":
            run.process.kill()
        else:
            run.kill()
        run.wait()
        # The installation still waits, for a run that is gone, and so holds the lock.
        assert_is_staging()
        again = deploying.playbook("deploy", apps=[good(deploying.probe(tmp_path, version))])
    assert again.code == 0, again.output
    assert_served(visits, live, version)
    assert_clean(version)
    for address in deploying.addresses().values():
        assert deploying.shell(address, "pgrep -f [b]uild_wheel || true") == ""


@pytest.mark.usefixtures("held")
def test_what_was_begun_is_removed_even_where_there_is_nothing_to_do(tmp_path: Path, live: str) -> None:
    source = deploying.probe(tmp_path, "4")
    assert deploying.playbook("deploy", apps=[good(source)]).code == 0
    with deploying.visitors() as visits:
        run = deploying.start("deploy", apps=[good(heavy(tmp_path, "5"))])
        wait_for_staging()
        run.kill()
        run.wait()
        again = deploying.playbook("deploy", apps=[good(source)])
    assert again.code == 0, again.output
    assert_served(visits, "4")
    assert_clean("4")


def test_killed_on_one_host_between_start_and_switch(tmp_path: Path, live: str) -> None:
    app = slow(tmp_path, "6", 10)
    with deploying.visitors() as visits:
        run = deploying.start("deploy", apps=[app])
        deploying.wait_until("the new release starts", lambda: all_hosts(lambda here: len(here.instances) == 2))
        kill_step(deploying.addresses()[HOSTS[0]])
        failed = run.wait()
        assert failed.code != 0
        assert f"{HOSTS[0]} failed, see above" in " ".join(failed.output.split())
        killed, other = (outcome.look()[host] for host in HOSTS)
        assert len(killed.instances) == 2 and set(killed.instances.values()) == {"active"}
        # The other host verified it, and aborted it.
        deploying.wait_until(
            "the other one is aborted", lambda: len(deploying.on_host(deploying.addresses()[HOSTS[1]]).instances) == 1
        )
        assert other.lock is None
        again = deploying.playbook("deploy", apps=[app])
    assert again.code == 0, again.output
    assert_served(visits, live, "6")
    assert_clean("6")


def test_the_controller_is_killed_between_start_and_switch(tmp_path: Path, live: str) -> None:
    with deploying.visitors() as visits:
        run = deploying.start("deploy", apps=[slow(tmp_path, "7", 25)])
        deploying.wait_until("the new release starts", lambda: all_hosts(lambda here: len(here.instances) == 2))
        run.kill()
        run.wait()
        assert all_hosts(lambda here: len(here.instances) == 2 and here.lock)
        again = deploying.playbook("deploy", apps=[good(deploying.probe(tmp_path, "8"))])
    assert again.code == 0, again.output
    assert_served(visits, live, "8")
    assert_clean("8")


def test_killed_between_the_switch_and_the_record(tmp_path: Path, live: str) -> None:
    """A visitor's long request keeps the old release from ending; the deploy waits for it, and is killed."""
    old = {host: here.live for host, here in outcome.look().items()}
    app = good(deploying.probe(tmp_path, "9"))
    with deploying.visitors() as visits:
        patient = [
            subprocess.Popen(
                ["docker", "exec", address, "python3", "-c", LONG_REQUEST], stdout=subprocess.PIPE, text=True
            )
            for address in deploying.addresses().values()
        ]
        run = deploying.start("deploy", apps=[app])
        deploying.wait_until("the switch", lambda: all(here.live != old[host] for host, here in outcome.look().items()))
        for address in deploying.addresses().values():
            kill_step(address)
        assert run.wait().code != 0
        assert all_hosts(lambda here: here.record[-1]["release"] != here.live)
        again = deploying.playbook("deploy", apps=[app])
        answers = [process.communicate(timeout=60)[0] for process in patient]
    assert again.code == 0, again.output
    assert_served(visits, live, "9")
    assert [json.loads(answer)["version"] for answer in answers] == [live] * len(HOSTS)
    assert_clean("9")
    # The record knows the way back all the same.
    assert deploying.playbook("rollback", apps=[app]).code == 0
    assert_clean(live)


LONG_REQUEST = """
import urllib.request
print(urllib.request.urlopen("http://localhost/slow?seconds=25", timeout=60).read().decode())
"""


# -- the disk is full --------------------------------------------------------------------------------------------------


@pytest.fixture
def filled() -> Iterator[Callable[[int], None]]:
    """A function that fills the disk of the app `small` but for some KiB."""

    def fill(left: int) -> None:
        on_all(
            f"cd /srv/small; fallocate -l $(( $(df --output=avail -k . | tail -n 1) - {left} ))KiB ballast 2>/dev/null"
            " || dd if=/dev/zero of=ballast bs=64k 2>/dev/null || true; df -k . | tail -n 1"
        )

    yield fill
    on_all("rm -f /srv/small/ballast")


@pytest.mark.parametrize(
    ("left", "begun"),
    [(0, "nothing fits"), (1024, "the code does not fit"), (6144, "the virtualenv does not fit")],
)
def test_the_disk_is_full(left: int, begun: str, tmp_path: Path, filled: Callable[[int], None]) -> None:
    source = deploying.probe(tmp_path, f"full-{left}")
    (source / "large.bin").write_bytes(bytes(4 * 1024 * 1024))
    # Something else to install, for a virtualenv of its own.
    with (source / "requirements.txt").open("a") as requirements:
        requirements.write(f"iniconfig==2.{left.bit_length() % 3}.0\n")
    app = good(source, name="small", domains=["small.test"], workers=1)
    before = outcome.look("small")
    live = deploying.fetch(deploying.addresses()[HOSTS[0]], host="small.test")[1].split()[1]
    filled(left)
    full = outcome.look("small")
    with deploying.visitors("small.test") as visits:
        run = deploying.playbook("deploy", apps=[app])
        assert run.code != 0
        for host, here in outcome.look("small").items():
            message = deploying.message(run, host)
            assert message.startswith(f"small on {host}: release ")
            assert "the disk is full" in message
            assert "/srv/small" in message
            assert f"Still serving: {here.live} (" in message
            assert "Next: free some space" in message
            assert here.live == before[host].live
            assert here.instances == {here.live: "active"}
            assert (here.home, here.releases, here.venvs) == (full[host].home, full[host].releases, full[host].venvs)
            assert here.drop_ins == before[host].drop_ins
            assert here.lock is None
        on_all("rm /srv/small/ballast")
        again = deploying.playbook("deploy", apps=[app])
    assert again.code == 0, again.output
    assert_served(visits, live, f"full-{left}")
    assert_clean(f"full-{left}", "small", "small.test")


# -- a reboot ----------------------------------------------------------------------------------------------------------


def test_after_a_reboot_the_live_release_serves_and_only_it(tmp_path: Path, live: str) -> None:
    """When the machine goes down, another release runs, proved but not live."""
    before = outcome.look()
    app = good(deploying.probe(tmp_path, "10"), release_commands=["touch instance/commanded; sleep 60"])
    on_all("rm -f /srv/probe/shared/instance/commanded")
    run = deploying.start("deploy", apps=[app])
    deploying.wait_until(
        "proved everywhere, and the release command runs",
        lambda: any(
            deploying.shell(address, "ls /srv/probe/shared/instance/commanded", check=False).startswith("/srv")
            for address in deploying.addresses().values()
        ),
        seconds=60,
    )
    run.kill()
    run.wait()
    assert all_hosts(lambda here: len(here.instances) == 2)
    outcome.reboot()
    for host, address in deploying.addresses().items():
        deploying.wait_until("serving", lambda: outcome.serves(address), seconds=60)  # noqa: B023
        here = deploying.on_host(address)
        assert here.live == before[host].live
        assert here.instances == {here.live: "active"}
        assert here.runtime == [here.live]
        assert deploying.shell(address, "systemctl is-active nginx") == "active"
        assert deploying.fetch(address) == (200, f"probe {live}\n")
    again = deploying.playbook("deploy", apps=[good(deploying.probe(tmp_path, "11"))])
    assert again.code == 0, again.output
    assert_clean("11")
