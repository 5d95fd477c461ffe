# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every way in which a deploy can go wrong: what is said, what still serves, and that nothing is left behind.

The tests build on each other: first the inventory's release is live alone, then a second one, which all others fail to
replace. Each deploy runs on both hosts at once, and visitors come all the while.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.support import deploying

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
    return {host: settled(host) for host in HOSTS}


def look() -> dict[str, deploying.Found]:
    return {host: deploying.on_host(address) for host, address in deploying.addresses().items()}


def app(source: Path, timeout: int = PATIENCE, **more: Any) -> dict[str, Any]:
    """The probe as this scenario deploys it."""
    health = {"path": "/healthz", "status": 200, "timeout": timeout}
    return deploying.probe_app(source, secrets={"PROBE_TOKEN": TOKEN}, **{"health": health, **more})


def second(directory: Path, **more: Any) -> dict[str, Any]:
    """The second good release; the same wherever it is copied to."""
    return app(deploying.probe(directory, version="2", variant="ill_by_file.py"), **more)


def assert_serving(visits: dict[str, deploying.Visits], *bodies: str) -> None:
    """Every visitor got one of the bodies, and each of them was seen."""
    for host, visit in visits.items():
        assert not visit.failures, host
        assert set(visit.bodies) == set(bodies), host
        assert sum(visit.bodies.values()) >= 5, host


def assert_only_live(before: deploying.Found, after: deploying.Found) -> None:
    """Nothing but the record changed, and only the live release runs."""
    assert after.live == before.live
    assert after.instances == {after.live: "active"}
    assert after.runtime == [after.live]
    assert after.lock is None
    assert dataclasses.replace(after, record=[]) == dataclasses.replace(before, record=[])
    assert after.record[: len(before.record)] == before.record


def settled(host: str) -> deploying.Found:
    """What there is on a host when the old instance has ended, for which no deploy waits."""
    address = deploying.addresses()[host]
    deploying.wait_until("only one instance", lambda: len(deploying.on_host(address).instances) == 1)
    return deploying.on_host(address)


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
        assert_only_live(found[host], look()[host])
        assert deploying.fetch(deploying.addresses()[host]) == (200, FIRST)


def test_a_good_release_goes_live_and_tells_no_secret(tmp_path: Path, ids: dict[str, str]) -> None:
    with deploying.visitors() as visits:
        run = deploying.playbook("deploy", "-vvv", "--diff", apps=[second(tmp_path)])
    assert run.code == 0, run.output
    assert_serving(visits, FIRST, SECOND)
    assert_no_secret(run)
    ids["2"] = str(look()[HOSTS[0]].live)
    assert ids["2"] != ids["1"]
    for host in HOSTS:
        here = settled(host)
        assert (here.live, here.instances) == (ids["2"], {ids["2"]: "active"})
        # That the secret reached the process shows that it was there to be told.
        _, said = deploying.ask_live(deploying.addresses()[host], "/setting/PROBE_TOKEN")
        assert TOKEN in said


def test_nothing_to_do_is_done(tmp_path: Path, found: dict[str, deploying.Found]) -> None:
    run = deploying.playbook("deploy", apps=[second(tmp_path)])
    assert run.code == 0, run.output
    assert "changed=0" in run.output and not re.search(r"changed=[1-9]", run.output)
    for host in HOSTS:
        assert_only_live(found[host], look()[host])


# -- releases that are refused -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Bad:
    """A release that must not go live.

    :param variant: how the probe is broken.
    :param step: where it has to be found out.
    :param words: what the message has to hold, the app's or the installer's own words among it.
    :param more: settings of the app.
    :param timeout: of its health, in seconds.
    """

    name: str
    variant: str
    step: str
    words: tuple[str, ...]
    more: dict[str, Any] = dataclasses.field(default_factory=dict)
    timeout: int = PATIENCE


UNCHECKED = {"checks": {"import": False}}

BAD = [
    Bad(
        "requirement missing",
        "requirements_missing.txt",
        "stage",
        ("cannot install requirements.txt", "there is no version of itsdangerous==99.0.0"),
    ),
    Bad(
        "requirements in conflict",
        "requirements_conflict.txt",
        "stage",
        ("cannot install requirements.txt", "depends on werkzeug>=3.1.0", "you require werkzeug==2.3.8"),
    ),
    Bad(
        "requirement does not compile",
        "requirements_compile.txt",
        "stage",
        ("cannot install requirements.txt", "uwsgi", "you need a C compiler to build uWSGI"),
    ),
    Bad(
        "syntax error",
        "syntax_error.py.txt",
        "check",
        ("cannot be imported as probe:create_app()", "def starting(:", "SyntaxError: invalid syntax"),
    ),
    Bad(
        "import error",
        "import_error.py",
        "check",
        ("cannot be imported as probe:create_app()", "ModuleNotFoundError: No module named 'flask_teapot'"),
    ),
    Bad(
        "import error, found by the proof",
        "import_error.py",
        "proof",
        ("started and then ended", "ModuleNotFoundError: No module named 'flask_teapot'"),
        UNCHECKED,
    ),
    Bad(
        "no such callable",
        "no_callable.py",
        "check",
        ("cannot be imported as probe:create_app()", "AttributeError: module 'probe' has no attribute 'create_app'"),
    ),
    Bad(
        "no such callable, found by the proof",
        "no_callable.py",
        "proof",
        ("started and then ended", "Failed to find attribute 'create_app' in 'probe'."),
        UNCHECKED,
    ),
    Bad(
        "factory raises",
        "factory_raises.py",
        "proof",
        ("started and then ended", "raise RuntimeError(", "RuntimeError: PROBE_DATABASE_URL is not set"),
    ),
    Bad(
        "hangs at import",
        "hangs_at_import.py",
        "check",
        ("cannot be imported as probe:create_app()", f"no end after {IMPATIENCE} s"),
        timeout=IMPATIENCE,
    ),
    Bad(
        "hangs at import, found by the proof",
        "hangs_at_import.py",
        "proof",
        (f"did not prove healthy within {IMPATIENCE} s", "it took the request and did not answer", "Booting worker"),
        UNCHECKED,
        IMPATIENCE,
    ),
    Bad(
        "wrong status",
        "health_500.py",
        "proof",
        ("answered GET /healthz with 500, expected 200", "    the cache at 192.0.2.1 does not answer"),
    ),
    Bad(
        "another status than the one asked for",
        "good",
        "proof",
        ("answered GET /healthz with 200, expected 204", "    ok"),
        {"health": {"path": "/healthz", "status": 204, "timeout": PATIENCE}},
    ),
    Bad(
        "dies after its first answer",
        "dies_after_first_answer.py",
        "proof",
        # Whichever is seen first: that its socket is gone, or that systemd knows.
        ("answered once and then |started and then ended (signal)", "Booting worker"),
    ),
    Bad(
        "a worker dies after its first answer",
        "worker_dies_after_first_answer.py",
        "proof",
        ("answered", "a worker of it died|closed the connection", "exited with code 70"),
    ),
    Bad(
        "the only worker dies after its first answer",
        "worker_dies_after_first_answer.py",
        "proof",
        ("answered", "exited with code 70"),
        {"workers": 1},
    ),
    Bad(
        "needs longer than the timeout",
        "slow_start.py",
        "proof",
        (f"did not prove healthy within {IMPATIENCE} s", "it took the request and did not answer"),
        UNCHECKED,
        IMPATIENCE,
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad.name))
def test_a_bad_release_is_refused(bad: Bad, tmp_path: Path, found: dict[str, deploying.Found]) -> None:
    variant = None if bad.variant == "good" else bad.variant
    source = deploying.probe(tmp_path, version=f"bad: {bad.name}", variant=variant)
    with deploying.visitors() as visits:
        run = deploying.playbook("deploy", apps=[app(source, bad.timeout, **bad.more)])
    assert run.code != 0
    assert_serving(visits, SECOND)
    assert_no_secret(run)
    now = look()
    assert len({here.record[-1]["release"] for here in now.values()}) == 1
    for host, here in now.items():
        refused = here.record[-1]
        assert_only_live(found[host], here)
        assert len(here.record) == len(found[host].record) + 1
        assert (refused["result"], refused["step"]) == ("failed", bad.step)
        assert refused["release"] not in (here.live, *here.releases, *here.drop_ins, *here.instances)
        assert deploying.ask_live(deploying.addresses()[host]) == (200, SECOND)

        message = deploying.message(run, host)
        assert message.startswith(f"probe on {host}: release {refused['release']} ")
        # uv folds its lines.
        unfolded = message + " ".join(message.split())
        for words in bad.words:
            assert any(word in unfolded for word in words.split("|")), words
        assert f"Still serving: {here.live} (" in message
        assert f"No visitor saw {refused['release']}." in message
        assert "Next: mend it and deploy again." in message
        assert f"It failed at the step {bad.step};" in message
        # Long enough to say why, short enough to be read.
        assert len(message.splitlines()) <= 32, message


def test_a_secret_in_the_apps_own_words_is_hidden(tmp_path: Path, found: dict[str, deploying.Found]) -> None:
    source = deploying.probe(tmp_path, version="3", variant="tells_secret.py")
    run = deploying.playbook("deploy", "-vvv", "--diff", apps=[app(source)])
    assert run.code != 0
    assert_no_secret(run)
    for host in HOSTS:
        assert "RuntimeError: cannot log in with ********" in deploying.message(run, host)
        assert_only_live(found[host], look()[host])


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


def assert_no_secret(run: deploying.Run) -> None:
    """Neither the secret nor its base64 at any offset was printed."""
    assert TOKEN not in run.output
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + TOKEN.encode()).decode()
        assert encoded[4:-4] not in run.output


# -- going back --------------------------------------------------------------------------------------------------------


def test_a_rollback_passes_over_what_failed(tmp_path: Path, ids: dict[str, str]) -> None:
    status = deploying.playbook("status")
    assert status.code == 0
    assert status.output.count(f"a rollback goes to {ids['1']}") == len(HOSTS)
    with deploying.visitors() as visits:
        run = deploying.playbook("rollback")
    assert run.code == 0, run.output
    assert_serving(visits, SECOND, FIRST)
    for host in HOSTS:
        here = settled(host)
        assert (here.live, here.instances, here.lock) == (ids["1"], {ids["1"]: "active"}, None)
        assert (here.record[-1]["action"], here.record[-1]["result"]) == ("rollback", "live")


def test_a_release_is_chosen_by_its_id(ids: dict[str, str]) -> None:
    with deploying.visitors() as visits:
        run = deploying.playbook("rollback", release=ids["2"])
    assert run.code == 0, run.output
    assert_serving(visits, FIRST, SECOND)
    for host in HOSTS:
        here = settled(host)
        assert (here.live, here.instances, here.lock) == (ids["2"], {ids["2"]: "active"}, None)


@pytest.mark.parametrize("release", ["0123456789ab", "*", "../live"])
def test_a_release_that_is_not_there_cannot_be_chosen(
    release: str, found: dict[str, deploying.Found], ids: dict[str, str]
) -> None:
    with deploying.visitors() as visits:
        run = deploying.playbook("rollback", release=release)
    assert run.code != 0
    assert_serving(visits, SECOND)
    for host in HOSTS:
        message = deploying.message(run, host)
        assert f"probe on {host}: release {release} is not on this host" in message
        assert ids["1"] in message and ids["2"] in message
        assert_only_live(found[host], look()[host])


def test_an_earlier_release_that_fails_its_proof_is_passed_over_next_time(tmp_path: Path, ids: dict[str, str]) -> None:
    """2 was live, 4 is; 2 cannot be proved any more, so the first rollback fails and the second one goes to 1."""
    source = deploying.probe(tmp_path, version="4")
    assert deploying.playbook("deploy", apps=[app(source)]).code == 0
    before = {host: settled(host) for host in HOSTS}
    for address in deploying.addresses().values():
        deploying.shell(address, "touch /srv/probe/shared/instance/ill")
    with deploying.visitors() as visits:
        failed = deploying.playbook("rollback")
    assert failed.code != 0
    assert_serving(visits, "probe 4\n")
    now = look()
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
        assert settled(host).live == ids["1"]


# -- two at once -------------------------------------------------------------------------------------------------------


def test_of_two_deploys_at_once_the_second_is_refused(tmp_path: Path) -> None:
    slow = app(deploying.probe(tmp_path, version="5", variant="slow_start.py"), env={"PROBE_SLOW_SECONDS": "8"})
    other = app(deploying.probe(tmp_path, version="6"))
    first = deploying.start("deploy", apps=[slow])
    try:
        deploying.wait_until(
            "the first one starts its release", lambda: all(len(here.instances) > 1 for here in look().values())
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
        here = settled(host)
        assert deploying.ask_live(deploying.addresses()[host]) == (200, "probe 5\n")
        assert (here.instances, here.lock) == ({here.live: "active"}, None)
    assert deploying.playbook("deploy", apps=[other]).code == 0


# -- a wrong inventory -------------------------------------------------------------------------------------------------


@pytest.fixture
def untouched() -> Iterator[None]:
    """Nothing on the hosts changes while the test runs."""
    look_closely = "find /srv /etc /run/lock /opt -newer /root/mark -not -path '/run/*/journal*' | sort"
    for address in deploying.addresses().values():
        deploying.shell(address, "touch /root/mark; sleep 0.1")
    yield
    for address in deploying.addresses().values():
        assert deploying.shell(address, look_closely) == ""


@pytest.mark.usefixtures("untouched")
def test_all_mistakes_are_in_one_message(found: dict[str, deploying.Found]) -> None:
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
        assert_no_secret(run)
        for host in HOSTS:
            message = deploying.message(run, host)
            assert "7 mistakes in the inventory, nothing was touched:" in message
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
    assert look() == found
