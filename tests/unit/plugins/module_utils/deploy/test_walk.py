# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps of a deploy, on a directory instead of a host."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.deploy import (
    full_walk,
    history,
    housekeeping,
    verification,
)
from ansible_collections.flaskops.server.plugins.module_utils.deploy import walk as walk_module
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts import checks
from ansible_collections.flaskops.server.plugins.module_utils.host import health, record
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import read_environment
from ansible_collections.flaskops.server.plugins.module_utils.host.health import Answer
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import SystemdError
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.installer import VirtualenvError
from fakes import ACTIVE, FAILED, NO_CHECKS, OK, SECRET, Host, Refused

# -- going well -------------------------------------------------------------------------------------------------------


def test_the_first_release(host: Host) -> None:
    walk = host.walk("aaaaaaaaaaaa")
    proved = host.step(walk, "verify")
    assert (proved["changed"], proved["pending"], proved["live"]) == (True, True, None)
    assert proved["msg"] == "aaaaaaaaaaaa is verified, the first release"
    assert (host.layout.live_id(), host.told, host.running) == (None, [], {"aaaaaaaaaaaa"})
    live = host.step(walk, "activate")
    assert (live["previous"], live["msg"]) == (None, "aaaaaaaaaaaa is live")
    assert os.readlink(host.layout.live) == "releases/aaaaaaaaaaaa"
    assert (host.told, host.running) == ([("deploy", "aaaaaaaaaaaa", "live")], {"aaaaaaaaaaaa"})
    assert "enable shop.service" in host.systemd.asked
    assert not host.layout.lock.exists()


def test_what_a_release_is_made_of(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", {"env": {"GREETING": "two\nlines $HOME", "WEB_THREADS": "9"}})
    release = host.layout.release("aaaaaaaaaaaa")
    assert sorted(os.listdir(release)) == sorted("app env http.sock release.json secrets.env serve venv".split())
    assert os.readlink(release / "venv") == "../../venvs/v"
    assert os.readlink(release / "http.sock") == str(host.layout.instance_socket("aaaaaaaaaaaa"))
    variables = read_environment(release / "env")
    assert {
        "FLASK_APP": "shop:app",
        "FLASK_RELEASE": "aaaaaaaaaaaa",
        "GREETING": "two\nlines $HOME",
        "WEB_THREADS": "9",
    }.items() <= (variables.items())
    assert variables["PATH"].startswith(f"{release}/venv/bin:")
    assert read_environment(release / "secrets.env") == {"KEY": SECRET}
    assert (release / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert SECRET not in (release / "env").read_text() + (release / "release.json").read_text()
    facts = host.layout.manifest("aaaaaaaaaaaa")
    assert (facts["venv"], facts["locked"], facts["by"], facts["source"]["version"]) == (
        "v",
        ["flask==3"],
        "ann@desk",
        "v-aaaaaaaaaaaa",
    )
    assert host.layout.drop_in("aaaaaaaaaaaa").read_text() == (release / "serve/service.conf").read_text()
    assert [oct((release / "app" / name).stat().st_mode)[-3:] for name in (".", "shop.py")] == ["750", "640"]
    # The shared directory is the one that persists; what came with the code is in it from the first deploy on.
    assert os.readlink(release / "app/instance") == str(host.layout.shared / "instance")
    assert os.listdir(host.layout.shared / "instance") == ["from-git"]


def test_the_same_again_does_nothing(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa")
    host.systemd.asked.clear()
    before = host.layout.release("aaaaaaaaaaaa").stat().st_mtime_ns
    done = host.step(host.walk("aaaaaaaaaaaa"), "verify")
    assert (done["changed"], done["pending"], done["msg"]) == (False, False, "aaaaaaaaaaaa is live, nothing to do")
    assert (host.systemd.asked, len(host.told)) == ([], 1)
    assert host.layout.release("aaaaaaaaaaaa").stat().st_mtime_ns == before
    assert not host.layout.lock.exists()


def test_the_next_release(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa")
    walk = host.walk("bbbbbbbbbbbb")
    assert host.step(walk, "verify")["msg"] == "bbbbbbbbbbbb is verified, because of other code than aaaaaaaaaaaa"
    # Both run, visitors have the old one.
    assert (host.layout.live_id(), host.running) == ("aaaaaaaaaaaa", {"aaaaaaaaaaaa", "bbbbbbbbbbbb"})
    live = host.step(walk, "activate")
    assert (live["previous"], live["msg"], host.running) == (
        "aaaaaaaaaaaa",
        "bbbbbbbbbbbb is live, aaaaaaaaaaaa was",
        {"bbbbbbbbbbbb"},
    )
    assert os.readlink(host.layout.release("bbbbbbbbbbbb") / "previous") == "../aaaaaaaaaaaa"
    assert host.layout.staged_ids() == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]


def test_a_live_release_that_does_not_run_is_started_again(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa")
    host.systemd.running.clear()
    assert (
        host.step(host.walk("aaaaaaaaaaaa"), "verify")["msg"]
        == "aaaaaaaaaaaa is verified, it is live, but was not running"
    )
    assert host.step(host.walk("aaaaaaaaaaaa"), "activate")["msg"] == "aaaaaaaaaaaa is live"
    assert host.running == {"aaaaaaaaaaaa"}
    assert not (host.layout.release("aaaaaaaaaaaa") / "previous").is_symlink()


def test_old_releases_go_with_their_units_and_virtualenvs(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"):
        host.deploy(release, {"keep_releases": 2, **NO_CHECKS})
    (host.layout.venvs / "unused").mkdir()
    host.deploy("eeeeeeeeeeee", {"keep_releases": 2, **NO_CHECKS})
    assert host.layout.staged_ids() == ["dddddddddddd", "eeeeeeeeeeee"]
    assert sorted(os.listdir(host.layout.venvs)) == ["v"]
    assert sorted(os.listdir(host.layout.unit_dir)) == [
        "shop@.service",
        "shop@dddddddddddd.service.d",
        "shop@eeeeeeeeeeee.service.d",
    ]


def test_the_drain_waits_until_nobody_is_left(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa")
    left = [3, 2, 1, 0]
    host.connections = lambda path: left.pop(0) if "/aaaaaaaaaaaa/" in path else 0
    host.deploy("bbbbbbbbbbbb", drain_seconds=60)
    assert left == []
    assert host.running == {"bbbbbbbbbbbb"}


def test_the_drain_ends_after_its_time(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa")
    host.clock.ticks = (float(seconds) for seconds in range(0, 100000, 5))
    host.connections = lambda _unused: 1
    host.deploy("bbbbbbbbbbbb", drain_seconds=20)
    assert host.running == {"bbbbbbbbbbbb"}


# -- going back -------------------------------------------------------------------------------------------------------


def test_a_rollback_and_another(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        host.deploy(release, NO_CHECKS)
    assert host.rollback(None, "verify")["msg"] == "bbbbbbbbbbbb is verified, instead of cccccccccccc"
    assert host.rollback(None, "activate")["msg"] == "bbbbbbbbbbbb is live, cccccccccccc was"
    host.rollback()
    assert (host.layout.live_id(), host.running) == ("aaaaaaaaaaaa", {"aaaaaaaaaaaa"})
    with pytest.raises(Refused, match="cannot be rolled back: no earlier good release is on this host") as refused:
        host.rollback()
    assert "Still serving: aaaaaaaaaaaa (v-aaaaaaaaaaaa)." in str(refused.value)
    assert host.told[-2:] == [("rollback", "bbbbbbbbbbbb", "live"), ("rollback", "aaaaaaaaaaaa", "live")]
    assert host.running == {"aaaaaaaaaaaa"}
    host.rollback("cccccccccccc")
    assert host.layout.live_id() == "cccccccccccc"


def test_a_rollback_goes_by_the_release_and_not_by_the_inventory(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        host.deploy(release, {"wsgi": "shop:app", "health": {"path": "/old"}})
    host.asked.clear()
    later = {"wsgi": "elsewhere:app", "health": {"path": "/new"}, "secrets": {"KEY": "unspoken-three"}}
    later["hooks"] = {"before_live": ["echo $KEY >&2; exit 1"]}
    walk = host.walk(None, later, components={}, files={}, artifact=None, source={})
    with pytest.raises(Refused, match="before_live") as refused:
        host.step(walk, "verify", "activate", action="rollback")
    assert {asked[1] for asked in host.asked} == {"/old"}
    # The hook had the release's own secret, and the message has none.
    assert SECRET not in str(refused.value) and "unspoken" not in str(refused.value)
    assert "********" in str(refused.value)


def test_a_rollback_to_a_release_that_is_not_there(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    with pytest.raises(Refused, match="release zzz is not on this host; releases here: aaaaaaaaaaaa"):
        host.rollback("zzz")
    assert (host.layout.live_id(), host.running, len(host.told)) == ("aaaaaaaaaaaa", {"aaaaaaaaaaaa"}, 1)


def test_a_rollback_skips_what_failed(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        host.deploy(release, NO_CHECKS)
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused):
        host.rollback()
    # It was good once: it stays, and is passed over.
    assert (host.layout.staged_ids(), host.told[-1]) == (
        ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"],
        ("rollback", "bbbbbbbbbbbb", "failed"),
    )
    host.answers = []
    host.rollback()
    assert host.layout.live_id() == "aaaaaaaaaaaa"


# -- being refused ----------------------------------------------------------------------------------------------------


def dies_while_it_proves(host: Host) -> None:
    def die() -> None:
        if host.clock.sleeps[-1] == verification.ANSWER_PAUSE:
            host.systemd.running["shop@bbbbbbbbbbbb.service"] = FAILED

    host.clock.on_sleep = die


def stops_answering(host: Host) -> None:
    host.answers = [OK, OK, "nothing listens on its socket"]


def loses_a_worker(host: Host) -> None:
    looks = iter([{101, 102}, {101, 102}, {101, 102}])
    host.workers = lambda: next(looks, {101, 103})


def starts_and_ends(host: Host) -> None:
    host.systemd.starts_as = FAILED
    host.systemd.log = ["Traceback (most recent call last):", "  File", f"KeyError: {SECRET}"]


def answers(*given: Answer | str) -> Callable[[Host], None]:
    return lambda host: host.answers.extend(given)


def setting(name: str, value: Any) -> Callable[[Host], None]:
    return lambda host: setattr(host.systemd, name, value)


REFUSED: list[tuple[Callable[[Host], None], dict[str, Any], str, list[str]]] = [
    (
        answers(Answer(500, f"oops\n{SECRET}")),
        {},
        "verify",
        ["answered GET / with 500, expected a status below 500", "oops", "****"],
    ),
    (
        answers(Answer(200, "")),
        {"health": {"path": "/h", "status": 204}},
        "verify",
        ["answered GET /h with 200, expected 204"],
    ),
    (answers(OK, Answer(500, ""), OK), {}, "verify", ["answered GET / with 500"]),
    (
        answers(Answer(503, "")),
        {"health": {"timeout": 1}},
        "verify",
        ["was not healthy within 1 s: it answered 503"],
    ),
    (
        answers("nothing listens on its socket"),
        {"health": {"timeout": 1}},
        "verify",
        ["was not healthy within 1 s: nothing listens on its socket"],
    ),
    (stops_answering, {}, "verify", ["answered 2 times and then nothing listens on its socket"]),
    (dies_while_it_proves, {}, "verify", ["started and then ended (exit-code)"]),
    (
        starts_and_ends,
        {},
        "verify",
        ["started and then ended (exit-code)", "Last lines of its journal:", "KeyError: ****"],
    ),
    (loses_a_worker, {}, "verify", ["answered, and then one of its workers died"]),
    (
        setting("refuses", "start shop@bbbbbbbbbbbb"),
        {},
        "start",
        ["could not be started", "systemctl start shop@bbbbbbbbbbbb.service: no"],
    ),
    (
        setting("wrong", ["shop@.service:3: Unknown key"]),
        {},
        "start",
        ["has a unit that systemd refuses", "Unknown key"],
    ),
    (lambda _unused: None, {"wsgi": "nope:app"}, "check", ["cannot be imported as nope:app", "No module named 'nope'"]),
    (
        lambda _unused: None,
        {"wsgi": "shop:nope"},
        "check",
        ["cannot be imported as shop:nope", "has no attribute 'nope'"],
    ),
    (
        lambda _unused: None,
        {"checks": {"import": False, "tests": 'echo "1 failed $KEY"; exit 3'}},
        "check",
        ["failed its tests", "1 failed ****"],
    ),
    (
        lambda _unused: None,
        {"hooks": {"after_stage": [f"exit 1 # {SECRET}"]}, **NO_CHECKS},
        "command",
        ["failed a command of after_stage (exit 1 # ****"],
    ),
    (lambda host: host.artifact.write_text("no tar"), {}, "stage", ["cannot be staged", "did not arrive whole"]),
    (lambda host: host.artifact.unlink(), {}, "stage", ["cannot be staged", "No such file"]),
]


@pytest.mark.parametrize(("spoil", "app", "step", "words"), REFUSED)
def test_a_refused_release(
    host: Host,
    spoil: Callable[[Host], None],
    app: dict[str, Any],
    step: str,
    words: list[str],
) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.clock.ticks = (tick / 10 for tick in range(10**6))
    before = host.layout.live.lstat().st_ino
    spoil(host)
    with pytest.raises(Refused) as refused:
        host.deploy("bbbbbbbbbbbb", app)
    message = str(refused.value)
    assert refused.value.step == step
    assert message.startswith("shop on web1: release bbbbbbbbbbbb ")
    assert all(word in message for word in words), message
    assert "Still serving: aaaaaaaaaaaa (v-aaaaaaaaaaaa). No visitor saw bbbbbbbbbbbb." in message
    assert f"It failed at the step {step}; every deploy is in" in message
    assert SECRET not in message
    # The pointer was not touched, nothing that was started or made is left, and the record knows.
    assert host.layout.live.lstat().st_ino == before
    assert (host.layout.live_id(), host.running, host.layout.staged_ids()) == (
        "aaaaaaaaaaaa",
        {"aaaaaaaaaaaa"},
        ["aaaaaaaaaaaa"],
    )
    assert os.listdir(host.layout.releases) == ["aaaaaaaaaaaa"]
    assert not host.layout.drop_in("bbbbbbbbbbbb").exists()
    assert (host.told[-1], host.layout.lock.exists()) == (("deploy", "bbbbbbbbbbbb", "failed"), False)
    assert SECRET not in host.layout.record.read_text()


def test_503_means_not_yet(host: Host) -> None:
    host.answers = [
        "nothing listens on its socket",
        Answer(503, ""),
        Answer(503, ""),
        Answer(503, ""),
        Answer(503, ""),
        OK,
    ]
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    assert host.layout.live_id() == "aaaaaaaaaaaa"


def test_a_command_that_hangs_ends_with_the_health_timeout(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.layout.home / "x").mkdir()
    monkeypatch.setattr(checks, "IMPORT_CHECK", "print('on my way', flush=True)\nimport time\ntime.sleep(60)")
    with pytest.raises(Refused, match=r"cannot be imported as shop:app: it did not finish within 1 s") as refused:
        host.deploy("aaaaaaaaaaaa", {"health": {"timeout": 1}})
    assert "on my way" in str(refused.value) and "Nothing is live yet." in str(refused.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ["cannot be staged: the disk is full"]),
        (
            VirtualenvError("no such package nope", "install", "because nope was not found"),
            ["cannot be installed", "was not found"],
        ),
    ],
)
def test_what_cannot_be_built(host: Host, error: Exception, words: list[str]) -> None:
    host.runtime.refuses = error
    with pytest.raises(Refused) as refused:
        host.deploy("aaaaaaaaaaaa")
    assert all(word in str(refused.value) for word in words)
    assert os.listdir(host.layout.releases) == []


def test_a_full_disk_does_not_hide_why(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_unused: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(history, "append", full)
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused, match="answered GET / with 500"):
        host.deploy("aaaaaaaaaaaa", NO_CHECKS)


def test_a_systemd_that_cannot_stop_does_not_hide_why(host: Host) -> None:
    host.answers = [Answer(500, "")]
    host.systemd.refuses = "stop shop@aaaaaaaaaaaa"
    with pytest.raises(
        Refused, match=r"(?s)answered GET / with 500.*could not be cleaned up: systemctl stop"
    ) as refused:
        host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    assert refused.value.step == "verify"
    assert not host.layout.lock.exists()


def test_a_host_that_was_not_prepared(host: Host) -> None:
    shutil.rmtree(host.layout.home)
    host.layout.home.parent.mkdir(exist_ok=True)
    with pytest.raises(
        Refused,
        match=r"(?s)shop is missing, the app was not set up.*Next: run: ansible-playbook -i INVENTORY flaskops.server.site",
    ):
        host.deploy("aaaaaaaaaaaa")


def test_the_hook_on_failure_runs_in_what_serves(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.answers = [Answer(500, "")]
    hooks = {"hooks": {"on_failure": ["pwd > ../../../told", "echo sorry; false"]}, **NO_CHECKS}
    with pytest.raises(Refused, match=r"(?s)Then release \w+ failed a command of on_failure.*    sorry"):
        host.deploy("bbbbbbbbbbbb", hooks)
    assert (host.layout.home / "told").read_text().strip() == str(host.layout.release("aaaaaaaaaaaa") / "app")


def test_the_proof_asks_a_while(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    assert host.clock.sleeps.count(verification.ANSWER_PAUSE) == verification.HEALTHY_ANSWERS - 1


def test_a_redirect_to_a_page_that_fails_is_no_proof(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.answers = [Answer(500, "boom", ((302, "/login"),))]
    words = "answered GET / with 302 to /login, which answered 500, expected a status below 500"
    with pytest.raises(Refused, match=words) as refused:
        host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert "boom" in str(refused.value)
    assert (host.layout.live_id(), host.running) == ("aaaaaaaaaaaa", {"aaaaaaaaaaaa"})


def test_redirects_without_an_end_are_not_waited_for(host: Host) -> None:
    host.answers = [health.RedirectError("it redirects GET / in a circle: 302 to /")]
    with pytest.raises(Refused, match="release aaaaaaaaaaaa redirects GET / in a circle: 302 to /"):
        host.deploy("aaaaaaaaaaaa", {"domains": ["a.example", "b.example"], "health": {"status": 200}, **NO_CHECKS})
    assert len(host.asked) == 1
    assert host.asked[0][4:] == (200, ["a.example", "b.example"])


# -- the switch -------------------------------------------------------------------------------------------------------


def test_the_pointer_goes_back_when_the_new_one_dies_while_the_old_one_drains(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    walk = host.walk("bbbbbbbbbbbb", NO_CHECKS)
    host.step(walk, "verify")

    def die() -> None:
        assert host.layout.live_id() == "bbbbbbbbbbbb"
        host.systemd.running["shop@bbbbbbbbbbbb.service"] = replace(ACTIVE, restarts=1)

    host.clock.on_sleep = die
    with pytest.raises(Refused, match="died right after it went live, and was taken back") as refused:
        host.step(walk, "activate")
    assert "Still serving: aaaaaaaaaaaa (v-aaaaaaaaaaaa)." in str(refused.value) and "No visitor" not in str(
        refused.value
    )
    assert (host.layout.live_id(), host.running, host.layout.staged_ids()) == (
        "aaaaaaaaaaaa",
        {"aaaaaaaaaaaa"},
        ["aaaaaaaaaaaa"],
    )
    assert host.told[-1] == ("deploy", "bbbbbbbbbbbb", "taken back")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda host: host.systemd.running.update({"shop@bbbbbbbbbbbb.service": FAILED}), "started and then ended"),
        (answers("nothing listens on its socket"), "was healthy, and then nothing listens"),
        (answers(Answer(502, "")), "answered GET / with 502"),
    ],
)
def test_what_died_between_proof_and_switch_does_not_go_live(
    host: Host, spoil: Callable[[Host], None], words: str
) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    walk = host.walk("bbbbbbbbbbbb", NO_CHECKS)
    host.step(walk, "verify")
    spoil(host)
    with pytest.raises(Refused, match=words):
        host.step(walk, "activate")
    assert (host.layout.live_id(), host.running, host.layout.staged_ids()) == (
        "aaaaaaaaaaaa",
        {"aaaaaaaaaaaa"},
        ["aaaaaaaaaaaa"],
    )


@pytest.mark.parametrize(("hook", "live"), [("before_live", "aaaaaaaaaaaa"), ("after_live", "bbbbbbbbbbbb")])
def test_a_hook_that_fails_at_the_switch(host: Host, hook: str, live: str) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    with pytest.raises(Refused, match=f"failed a command of {hook}"):
        host.deploy("bbbbbbbbbbbb", {"hooks": {hook: ["false"]}, **NO_CHECKS})
    assert (host.layout.live_id(), host.running) == (live, {live})
    # A release whose after_live failed serves, and is no bad one.
    assert record.bad(record.read(host.layout.record)) == {"aaaaaaaaaaaa", "bbbbbbbbbbbb"} - {live} - {"aaaaaaaaaaaa"}


def test_only_what_this_run_proved_goes_live(host: Host) -> None:
    for step in ("activate", "run_commands"):
        with pytest.raises(Refused, match="was not verified by this run"):
            host.step(host.walk("aaaaaaaaaaaa"), step)


def test_what_is_built_once_is_proved_later_and_is_this_run_s_to_take_away(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    walk = host.walk("bbbbbbbbbbbb", NO_CHECKS)
    assert host.step(walk, "stage") == {"changed": True, "release": "bbbbbbbbbbbb", "msg": "bbbbbbbbbbbb is staged"}
    assert (host.running, host.layout.staged_ids()) == ({"aaaaaaaaaaaa"}, ["aaaaaaaaaaaa", "bbbbbbbbbbbb"])
    assert not host.step(walk, "stage")["changed"]
    host.step(walk, "verify", release="bbbbbbbbbbbb", created=True)
    assert host.running == {"aaaaaaaaaaaa", "bbbbbbbbbbbb"}
    host.step(walk, "abort")
    assert (host.layout.live_id(), host.running, host.layout.staged_ids()) == (
        "aaaaaaaaaaaa",
        {"aaaaaaaaaaaa"},
        ["aaaaaaaaaaaa"],
    )


def test_release_commands_run_in_the_proved_release_as_the_app(host: Host) -> None:
    commands = ['echo "$FLASK_RELEASE $KEY" > ../../../told', "pwd >> ../../../told"]
    walk = host.walk("aaaaaaaaaaaa", {"release_commands": commands, **NO_CHECKS})
    host.step(walk, "verify")
    assert host.step(walk, "run_commands")["msg"] == "2 release commands ran"
    assert (
        host.layout.home / "told"
    ).read_text() == f"aaaaaaaaaaaa {SECRET}\n{host.layout.release('aaaaaaaaaaaa')}/app\n"
    assert host.layout.live_id() is None


def test_what_release_commands_ran_is_in_the_record(host: Host) -> None:
    commands = ["true", f"echo {SECRET}", "false", "touch never"]
    walk = host.walk("aaaaaaaaaaaa", {"release_commands": commands, **NO_CHECKS})
    host.step(walk, "verify")
    with pytest.raises(Refused, match=r"failed a command of release_commands \(false\)"):
        host.step(walk, "run_commands")
    ran, failed = record.read(host.layout.record)
    assert (ran["result"], ran["commands"]) == ("commands ran", ["true", "echo ********"])
    assert (failed["result"], failed["step"]) == ("failed", "command")


def test_commands_alone_make_no_release_a_bad_one(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        host.deploy(release, NO_CHECKS)
    host.systemd.running.clear()
    walk = host.walk("bbbbbbbbbbbb", {"release_commands": ["true"], **NO_CHECKS})
    host.step(walk, "verify", "run_commands")
    assert host.told[-1] == ("deploy", "bbbbbbbbbbbb", "commands ran")
    assert record.bad(record.read(host.layout.record)) == set()


def test_a_release_command_that_fails_withdraws_the_release(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    walk = host.walk("bbbbbbbbbbbb", {"release_commands": ["false"], **NO_CHECKS})
    host.step(walk, "verify")
    with pytest.raises(Refused, match="failed a command of release_commands"):
        host.step(walk, "run_commands")
    assert (host.layout.live_id(), host.running, host.layout.staged_ids()) == (
        "aaaaaaaaaaaa",
        {"aaaaaaaaaaaa"},
        ["aaaaaaaaaaaa"],
    )


def test_withdraw(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    walk = host.walk("cccccccccccc", NO_CHECKS)
    host.step(walk, "verify")
    assert host.step(walk, "abort") == {
        "changed": True,
        "release": "cccccccccccc",
        "live": "bbbbbbbbbbbb",
        "msg": "cccccccccccc was aborted",
    }
    assert (host.running, host.layout.staged_ids(), host.layout.lock.exists()) == (
        {"bbbbbbbbbbbb"},
        ["aaaaaaaaaaaa", "bbbbbbbbbbbb"],
        False,
    )
    # One that was there before is stopped, and stays.
    host.rollback(None, "verify")
    host.rollback(None, "abort")
    assert (host.running, host.layout.staged_ids(), len(host.told)) == (
        {"bbbbbbbbbbbb"},
        ["aaaaaaaaaaaa", "bbbbbbbbbbbb"],
        2,
    )
    assert not host.step(host.walk("bbbbbbbbbbbb", NO_CHECKS), "abort")["changed"]


# -- after a dead run -------------------------------------------------------------------------------------------------


def test_what_a_dead_run_left_is_cleaned_up(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    for name in (".staging-bbbbbbbbbbbb", ".removing-cccccccccccc", "half"):
        (host.layout.releases / name).mkdir()
    (host.layout.home / ".live.new").symlink_to("releases/bbbbbbbbbbbb")
    host.systemd.running["shop@zzz.service"] = ACTIVE
    host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert sorted(os.listdir(host.layout.releases)) == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    assert (host.running, list(host.layout.home.glob(".*"))) == ({"bbbbbbbbbbbb"}, [])


def test_the_live_release_is_never_cleaned_up(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    (host.layout.release("aaaaaaaaaaaa") / "release.json").unlink()
    host.step(host.walk("bbbbbbbbbbbb", NO_CHECKS), "verify")
    assert (host.layout.release("aaaaaaaaaaaa") / "app").is_dir()
    assert host.running == {"aaaaaaaaaaaa", "bbbbbbbbbbbb"}


@pytest.mark.parametrize("action", ["deploy", "rollback"])
def test_a_line_that_a_dead_run_owes_is_written(host: Host, action: str) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        host.deploy(release, NO_CHECKS)
    lines = host.layout.record.read_text().splitlines(keepends=True)
    host.layout.record.write_text(lines[0])
    if action == "deploy":
        host.step(host.walk("bbbbbbbbbbbb", NO_CHECKS), "verify")
    else:
        host.rollback()
    assert host.told[:2] == [("deploy", "aaaaaaaaaaaa", "live"), ("deploy", "bbbbbbbbbbbb", "live")]
    assert host.layout.live_id() == ("bbbbbbbbbbbb" if action == "deploy" else "aaaaaaaaaaaa")


def test_a_link_that_the_app_put_in_its_shared_directory_is_not_followed(host: Host) -> None:
    outside = host.layout.root / "outside"
    outside.mkdir(mode=0o755)
    (host.layout.shared / "instance").symlink_to(outside)
    host.deploy("aaaaaaaaaaaa", {"shared_paths": ["instance", "up/loads"], **NO_CHECKS})
    assert outside.stat().st_mode & 0o7777 == 0o755
    assert (host.layout.shared / "up/loads").stat().st_mode & 0o7777 == 0o770
    assert os.readlink(host.layout.release("aaaaaaaaaaaa") / "app/up/loads") == str(host.layout.shared / "up/loads")


# -- a live release whose files are gone --------------------------------------------------------------------------------


def without_its_directory(host: Host) -> None:
    shutil.rmtree(host.layout.release("aaaaaaaaaaaa"))


def without_its_manifest(host: Host) -> None:
    (host.layout.release("aaaaaaaaaaaa") / "release.json").unlink()


def with_half_a_manifest(host: Host) -> None:
    (host.layout.release("aaaaaaaaaaaa") / "release.json").write_text('{"app": "sh')


def with_an_empty_environment(host: Host) -> None:
    (host.layout.release("aaaaaaaaaaaa") / "env").write_text("")


def without_its_code(host: Host) -> None:
    shutil.rmtree(host.layout.release("aaaaaaaaaaaa") / "app")


def without_a_file(host: Host) -> None:
    (host.layout.release("aaaaaaaaaaaa") / "app/shop.py").unlink()


def without_its_configuration(host: Host) -> None:
    shutil.rmtree(host.layout.release("aaaaaaaaaaaa") / "serve")


def without_its_socket(host: Host) -> None:
    (host.layout.release("aaaaaaaaaaaa") / "http.sock").unlink()


def without_its_virtualenv(host: Host) -> None:
    shutil.rmtree(host.layout.venvs)


def without_a_package(host: Host) -> None:
    shutil.rmtree(host.layout.venvs / "v" / "lib/python3/site-packages/flask")


def without_its_packages(host: Host) -> None:
    shutil.rmtree(host.layout.venvs / "v" / "lib")


DAMAGED = [
    without_its_directory,
    without_its_manifest,
    with_half_a_manifest,
    with_an_empty_environment,
    without_its_code,
    without_a_file,
    without_its_configuration,
    without_its_socket,
    without_its_virtualenv,
    without_a_package,
    without_its_packages,
]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_deploy_makes_a_damaged_live_release_again(host: Host, damage: Callable[[Host], None]) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    whole = sorted(os.listdir(host.layout.release("aaaaaaaaaaaa")))
    damage(host)
    predicted = host.walk("aaaaaaaaaaaa", NO_CHECKS).predict()
    assert predicted["changed"]
    assert predicted["msg"].startswith("shop: would rebuild aaaaaaaaaaaa: it is live, but damaged: ")
    # The controller sees release.json only, and keeps the source to itself until it is asked for it.
    host.has_source = False
    walk = host.walk("aaaaaaaaaaaa", NO_CHECKS, artifact=None)
    assert host.step(walk, "verify")["source_needed"]
    host.has_source = True
    host.systemd.asked.clear()
    proved = host.step(host.walk("aaaaaaaaaaaa", NO_CHECKS), "verify")
    assert "it is live, but was damaged: " in proved["msg"]
    # What ran in directories that are gone has been stopped before the new one was started under its name.
    assert host.systemd.asked.index("stop shop@aaaaaaaaaaaa.service") < host.systemd.asked.index(
        "start shop@aaaaaaaaaaaa.service"
    )
    host.step(host.walk("aaaaaaaaaaaa", NO_CHECKS), "activate")
    assert sorted(os.listdir(host.layout.release("aaaaaaaaaaaa"))) == whole
    assert (host.layout.missing("aaaaaaaaaaaa"), host.running) == ([], {"aaaaaaaaaaaa"})
    assert host.walk("aaaaaaaaaaaa", NO_CHECKS).predict()["msg"] == "shop: aaaaaaaaaaaa is live, nothing to do"
    assert os.listdir(host.layout.releases) == ["aaaaaaaaaaaa"]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_live_release_does_not_keep_the_next_from_going_live(
    host: Host, damage: Callable[[Host], None]
) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    damage(host)
    hooks = {"before_stage": ["true"], "on_failure": ["true"]}
    host.deploy("bbbbbbbbbbbb", {"hooks": hooks, **NO_CHECKS})
    assert (host.layout.live_id(), host.running) == ("bbbbbbbbbbbb", {"bbbbbbbbbbbb"})


def test_a_damaged_release_is_no_way_back(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"):
        host.deploy(release, NO_CHECKS)
    (host.layout.release("bbbbbbbbbbbb") / "env").unlink()
    with pytest.raises(Refused, match="is damaged and cannot be rolled back to: env is gone"):
        host.rollback("bbbbbbbbbbbb")
    host.rollback()
    assert host.layout.live_id() == "aaaaaaaaaaaa"


def test_what_a_damaged_live_release_uses_is_not_pruned(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    (host.layout.release("aaaaaaaaaaaa") / "release.json").unlink()
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused):
        host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert (host.layout.venvs / "v").is_dir()


def test_that_it_serves_is_not_said_of_what_does_not_run(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.systemd.running.clear()
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused, match="aaaaaaaaaaaa is live but not running: visitors get an error") as refused:
        host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert "Still serving" not in str(refused.value)


def test_what_comes_and_goes_behind_a_link_is_no_damage(host: Host) -> None:
    """A link of the repository into a shared directory: the app makes what it leads to, and removes it."""
    code = host.layout.root / "source"
    (code / "static").mkdir()
    (code / "static/media").symlink_to("../instance/media")
    with tarfile.open(host.artifact, "w") as tar:
        tar.add(code, ".")
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    for change in (lambda path: path.mkdir(), lambda path: path.rmdir()):
        change(host.layout.shared / "instance/media")
        assert host.layout.missing("aaaaaaaaaaaa") == []
    (host.layout.release("aaaaaaaaaaaa") / "app/static/media").unlink()
    assert host.layout.missing("aaaaaaaaaaaa") == ["1 file is gone"]


def test_damage_of_the_live_release_is_predicted_whatever_is_wanted(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    (host.layout.release("aaaaaaaaaaaa") / "env").unlink()
    assert host.walk("bbbbbbbbbbbb", NO_CHECKS).predict()["msg"].endswith(" (the live one is damaged: env is gone)")


def test_what_is_in_the_place_of_a_shared_directory_is_said(host: Host) -> None:
    """Such as the link to itself that an earlier version left in the place of the uploads."""
    (host.layout.shared / "instance").mkdir()
    (host.layout.shared / "instance/uploads").symlink_to(host.layout.shared / "instance/uploads")
    live = host.deploy("aaaaaaaaaaaa", {"shared_paths": ["instance", "instance/uploads"], **NO_CHECKS})
    [note] = live["notes"]
    assert note.startswith(f"{host.layout.shared}/instance/uploads is not a directory, or lies behind a link")


def test_a_page_behind_a_redirect_can_need_the_release_commands(host: Host) -> None:
    host.answers = [Answer(500, "no such table", ((302, "/login"),))]
    commands = {"release_commands": ["true"], **NO_CHECKS}
    with pytest.raises(Refused, match=r"run them in hooks.after_stage, or .* \(health: {status: 302}\)"):
        host.deploy("aaaaaaaaaaaa", commands)
    host.answers = [Answer(500, "no such table")]
    with pytest.raises(Refused) as refused:
        host.deploy("aaaaaaaaaaaa", commands)
    assert "after_stage" not in str(refused.value)


# -- a full disk, and whatever else ------------------------------------------------------------------------------------


def fill_the_disk(host: Host, monkeypatch: pytest.MonkeyPatch, free_after: int = 1000) -> list[str]:
    """Let nothing be appended to the record until releases have been pruned so often."""
    pruned: list[str] = []
    append, prune = history.append, housekeeping.prune

    def full(path: Path, entry: Any) -> None:
        if len(pruned) < free_after:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, entry)

    def pruning(*given: Any) -> None:
        pruned.append("")
        prune(*given)

    monkeypatch.setattr(history, "append", full)
    monkeypatch.setattr(housekeeping, "prune", pruning)
    return pruned


def test_a_rollback_needs_no_free_byte(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        host.deploy(release, {"hooks": {"after_live": ["echo >> ../../../told"]}, **NO_CHECKS})
    with monkeypatch.context() as patches:
        fill_the_disk(host, patches)
        host.rollback()
    assert (host.layout.live_id(), host.running) == ("aaaaaaaaaaaa", {"aaaaaaaaaaaa"})
    assert host.told[-1] == ("deploy", "bbbbbbbbbbbb", "live")
    # The next run writes the line, as what it was: a further rollback does not go forward to the bad one.
    with pytest.raises(Refused, match="no earlier good release"):
        host.rollback()
    assert host.told[-1] == ("rollback", "aaaaaaaaaaaa", "live")


def test_a_record_that_cannot_be_written_is_said_and_refuses_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    fill_the_disk(host, monkeypatch)
    live = host.deploy("bbbbbbbbbbbb", {"hooks": {"after_live": ["echo >> ../../../told"]}, **NO_CHECKS})
    assert live["msg"] == "bbbbbbbbbbbb is live, aaaaaaaaaaaa was"
    assert "deploys.jsonl could not be written (No space left on device)" in live["notes"][0]
    assert (host.layout.home / "told").exists()


def test_old_releases_make_room_for_the_record(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    fill_the_disk(host, monkeypatch, free_after=1)
    assert host.deploy("bbbbbbbbbbbb", NO_CHECKS)["notes"] == []
    assert host.told[-1] == ("deploy", "bbbbbbbbbbbb", "live")


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.EIO, "Input/output error"), ValueError("odd"), RuntimeError("odder"), SystemdError("no")],
)
def test_a_fault_after_the_switch_says_that_the_new_release_is_live(
    host: Host, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)

    def raise_it(*_unused: Any) -> None:
        raise fault

    monkeypatch.setattr(housekeeping, "prune", raise_it)
    with pytest.raises(Refused, match="release bbbbbbbbbbbb is live and serving: after the switch it") as refused:
        host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert "Still serving: aaaaaaaaaaaa" not in str(refused.value) and "the release stays live" in str(refused.value)
    assert (host.layout.live_id(), host.running, host.told[-1]) == (
        "bbbbbbbbbbbb",
        {"bbbbbbbbbbbb"},
        ("deploy", "bbbbbbbbbbbb", "live"),
    )
    assert not host.layout.lock.exists()


@pytest.mark.parametrize("fault", [ValueError(f"odd {SECRET}"), UnicodeError("é"), KeyError("k"), RecursionError()])
def test_whatever_a_step_raises_nothing_is_left(host: Host, fault: Exception) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.answers = [fault]
    with pytest.raises(Refused, match=f"hit a bug in flaskops.server .{type(fault).__name__}") as refused:
        host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert "Still serving: aaaaaaaaaaaa" in str(refused.value) and SECRET not in str(refused.value)
    assert "in ask" in str(refused.value)
    assert (host.layout.live_id(), host.running, host.layout.staged_ids()) == (
        "aaaaaaaaaaaa",
        {"aaaaaaaaaaaa"},
        ["aaaaaaaaaaaa"],
    )
    assert (host.told[-1], host.layout.lock.exists()) == (("deploy", "bbbbbbbbbbbb", "failed"), False)


def test_a_fault_in_cleaning_up_ends_the_claim_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(*_unused: Any) -> None:
        raise ValueError(f"odd {SECRET}")

    monkeypatch.setattr(walk_module.Failure, "message", raise_it)
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused, match=r"answered GET / with 500.*\n.*Cleaning up failed too: odd") as refused:
        host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    assert SECRET not in str(refused.value)
    assert not host.layout.lock.exists()


def test_the_first_release_that_is_refused_leads_to_site(host: Host) -> None:
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused, match=r"Next: fix it, then run: ansible-playbook -i INVENTORY flaskops.server.site"):
        host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.answers = []
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    host.answers = [Answer(500, "")]
    with pytest.raises(Refused, match=r"Next: fix it, then run: ansible-playbook -i INVENTORY flaskops.server.deploy"):
        host.deploy("bbbbbbbbbbbb", NO_CHECKS)


def test_whether_nginx_leads_to_the_app(host: Host) -> None:
    assert host.deploy("aaaaaaaaaaaa", NO_CHECKS)["reachable"] is False
    site = host.layout.root / "etc/nginx/sites-enabled/mine"
    site.parent.mkdir(parents=True)
    for text in ("# server unix:/srv/shop/live/http.sock;\n", "server unix:/srv/shop2/live/http.sock;\n"):
        site.write_text(text)
        assert host.step(host.walk("aaaaaaaaaaaa", NO_CHECKS), "verify")["reachable"] is False
    site.write_text("upstream mine { server unix:/srv/shop/live/http.sock; }\n")
    assert host.deploy("bbbbbbbbbbbb", NO_CHECKS)["reachable"] is True
    assert host.step(host.walk("bbbbbbbbbbbb", NO_CHECKS), "verify")["reachable"] is True


def test_modes_do_not_hang_on_the_umask(host: Host) -> None:
    before = os.umask(0o077)
    try:
        host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    finally:
        os.umask(before)
    made = (
        host.layout.releases,
        host.layout.venvs,
        host.layout.release("aaaaaaaaaaaa"),
        host.layout.shared / "instance",
    )
    assert [oct(path.stat().st_mode)[-3:] for path in made] == ["755", "755", "750", "770"]


def test_what_the_code_has_in_a_shared_directory_later_is_said(host: Host) -> None:
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    (host.layout.shared / "instance/from-git").write_text("the app's")
    live = host.deploy("bbbbbbbbbbbb", NO_CHECKS)
    assert (host.layout.shared / "instance/from-git").read_text() == "the app's"
    assert "1 file of the repository in instance/ (from-git) will not be used" in live["notes"][0]


def test_changed_components_are_in_a_fixed_order_and_know_no_older_parts() -> None:
    assert full_walk.changed({"code": "1", "env": "2"}, {}) == ["code", "env"]
    assert full_walk.changed({"code": "1", "env": "2"}, {"env": "2", "code": "1", "older": "x"}) == []


# -- check mode -------------------------------------------------------------------------------------------------------


def test_predictions(host: Host) -> None:
    shutil.rmtree(host.layout.home)
    bare = host.walk("aaaaaaaaaaaa").predict()
    assert bare == {
        "changed": True,
        "release": "aaaaaaaaaaaa",
        "live": None,
        "differs": ["code", "env"],
        "msg": "shop: would deploy aaaaaaaaaaaa, the first release",
    }
    host.layout.shared.mkdir(parents=True)
    host.deploy("aaaaaaaaaaaa", NO_CHECKS)
    before = sorted(host.layout.root.rglob("*")), list(host.systemd.asked)
    same = host.walk("aaaaaaaaaaaa").predict()
    assert (same["changed"], same["differs"], same["msg"]) == (False, [], "shop: aaaaaaaaaaaa is live, nothing to do")
    other = host.walk("bbbbbbbbbbbb").predict()
    assert (other["changed"], other["differs"]) == (True, ["code"])
    assert other["msg"] == "shop: would deploy bbbbbbbbbbbb, because of other code than aaaaaaaaaaaa"
    with pytest.raises(DeployError, match="no earlier good release"):
        host.walk(None, components={}).predict()
    assert (sorted(host.layout.root.rglob("*")), host.systemd.asked) == before
    host.systemd.running.clear()
    assert (
        host.walk("aaaaaaaaaaaa").predict()["msg"] == "shop: would start aaaaaaaaaaaa: it is live, but is not running"
    )


def test_the_prediction_of_a_rollback(host: Host) -> None:
    for release in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        host.deploy(release, NO_CHECKS)
    back = host.walk(None, components={}).predict()
    assert (back["release"], back["msg"]) == (
        "aaaaaaaaaaaa",
        "shop: would deploy aaaaaaaaaaaa, instead of bbbbbbbbbbbb",
    )
