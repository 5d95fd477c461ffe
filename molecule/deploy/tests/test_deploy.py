"""Deploys and rollbacks of one of two applications under load, through nginx over HTTPS, on every host at once.

The tests run in the order of this file: each goes on with what the one before left.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.tests.load.client import Lane, Load, Summary
from ansible_collections.flaskops.server.tests.support import crowd, deploying, visitor

HOSTS = deploying.addresses()
APPS = deploying.inventory_apps()
REDEPLOYS = 4
#: Every second redeploy changes a dependency too.
CLICK = ("8.5.1", "8.1.8")
FIRST = "1"
LAST = str(1 + REDEPLOYS)

Say = Callable[[str], None]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line that is seen whether the test passes or not."""

    def function(line: str) -> None:
        with capsys.disabled():
            print(f"\n    {line}", end="", flush=True)

    return function


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the source of a version: the same directory each time."""
    top = tmp_path_factory.mktemp("sources")
    made: dict[str, Path] = {}

    def source(version: str) -> Path:
        if version == FIRST:
            return deploying.PROBE
        if version not in made:
            made[version] = deploying.probe(top, version)
            (made[version] / "static" / f"asset-{version}.css").write_text(f"/* {version} */\n")
            pins = made[version] / "requirements.txt"
            pins.write_text(pins.read_text().replace(f"click=={CLICK[0]}", f"click=={click_of(version)}"))
        return made[version]

    return source


def click_of(version: str) -> str:
    """Return the pin of click in a version: versions 1 and 2 share one, 3 and 4 the other, and so on."""
    return CLICK[(int(version) - 1) // 2 % 2]


def visitors(
    app: str = "left", lanes: Sequence[Lane] = (), rate: float = crowd.RATE
) -> contextlib.AbstractContextManager[dict[str, Load]]:
    """Keep asking every host for an app."""
    return crowd.visiting(f"{app}.test", lanes, rate)


def deploy(left: dict[str, Any], *arguments: str) -> deploying.Run:
    """Run deploy.yml with both apps on all hosts; it must succeed."""
    run = deploying.playbook("deploy", *arguments, apps=[left, APPS["right"]])
    assert run.code == 0, run.output
    return run


def left(source: Path, **more: Any) -> dict[str, Any]:
    return {**APPS["left"], "source": {"path": str(source), "exclude": ["variants"]}, **more}


def live(app: str = "left") -> str:
    """Return the release that is live, the same one on every host."""
    found = {deploying.on_host(address, app).live for address in HOSTS.values()}
    assert len(found) == 1, found
    return str(found.pop())


def main_pids(app: str) -> dict[str, str]:
    """Return the main process of the live instance on each host."""
    release = live(app)
    return {
        name: deploying.shell(address, f"systemctl show --value --property=MainPID {app}@{release}.service")
        for name, address in HOSTS.items()
    }


def workers_of(app: str = "left") -> set[int]:
    """Return how many workers the live instances have."""
    pids = main_pids(app)
    return {
        len(deploying.shell(address, f"cat /proc/{pids[name]}/task/{pids[name]}/children").split())
        for name, address in HOSTS.items()
    }


def answers(target: str, app: str = "left") -> list[visitor.Answer]:
    """Ask every host the same through nginx."""
    return [visitor.get(visitor.address(name), f"{app}.test", target) for name in HOSTS]


def setting(name: str) -> set[str | None]:
    return {answer.json()["environment"] for answer in answers(f"/setting/{name}")}


def serves(version: str) -> None:
    """Make sure that every host serves a version with its own dependencies."""
    assert {answer.json()["version"] for answer in answers("/version")} == {version}
    assert {answer.json()["installed"] for answer in answers("/installed/click")} == {click_of(version)}


@dataclass
class Redeploys:
    """What redeploys did: ids and seconds in their order, and what visitors of each host met."""

    releases: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    left: dict[str, Summary] = field(default_factory=dict)
    right: dict[str, Summary] = field(default_factory=dict)
    right_pids: tuple[dict[str, str], dict[str, str]] = field(default_factory=lambda: ({}, {}))
    missing_assets: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def redeploys(sources: Callable[[str], Path]) -> Redeploys:
    """Deploy versions of one app, one after the other, while visitors of both keep asking."""
    done = Redeploys(releases=[live()])
    before = main_pids("right")
    with (
        visitors() as loads,
        visitors("right", [Lane("short", "/version", 1), Lane("keep-alive", "/version", 1)], 5) as others,
    ):
        for number in range(2, 2 + REDEPLOYS):
            run = deploy(left(sources(str(number))))
            done.seconds.append(run.seconds)
            done.releases.append(live())
            serves(str(number))
            # A page that was loaded from the release before, or the one before that, still finds its files.
            for asset in range(max(2, number - 2), number + 1):
                for name, answer in zip(HOSTS, answers(f"/static/asset-{asset}.css"), strict=True):
                    if (answer.status, answer.text) != (200, f"/* {asset} */\n"):
                        done.missing_assets.append(f"asset-{asset} at version {number} on {name}: {answer.status}")
    done.left = {name: load.summary for name, load in loads.items()}
    done.right = {name: load.summary for name, load in others.items()}
    done.right_pids = (before, main_pids("right"))
    return done


@pytest.mark.parametrize("name", HOSTS)
def test_no_visitor_notices_redeploys(redeploys: Redeploys, name: str, say: Say) -> None:
    summary = redeploys.left[name]
    say(f"{name}, {REDEPLOYS} redeploys: {summary}")
    crowd.went_well(summary)
    assert list(summary.versions) == [str(number) for number in range(1, 2 + REDEPLOYS)]
    assert summary.requests > 100 * REDEPLOYS


def test_every_redeploy_was_a_release_of_its_own(redeploys: Redeploys, say: Say) -> None:
    say(f"a redeploy of both hosts took {', '.join(f'{seconds:.1f}' for seconds in redeploys.seconds)} s")
    assert len(set(redeploys.releases)) == 1 + REDEPLOYS


@pytest.mark.parametrize("name", HOSTS)
def test_the_other_app_was_left_alone(redeploys: Redeploys, name: str, say: Say) -> None:
    summary = redeploys.right[name]
    say(f"{name}, the other app: {summary}")
    assert (summary.failed, summary.cut) == (0, 0), summary.samples
    before, after = redeploys.right_pids
    assert after[name] == before[name] != "0"


def test_files_of_the_release_before_are_still_served(redeploys: Redeploys) -> None:
    assert redeploys.missing_assets == []


@pytest.mark.parametrize("address", HOSTS.values(), ids=HOSTS)
def test_old_releases_and_virtualenvs_are_gone(redeploys: Redeploys, address: str) -> None:
    there = deploying.on_host(address, "left")
    kept = redeploys.releases[-APPS["left"]["keep_releases"] :]
    assert there.releases == there.drop_ins == sorted(kept)
    assert there.instances == {kept[-1]: "active"} and there.runtime == [kept[-1]]
    used = deploying.shell(address, "cd /srv/left/releases && for one in *; do basename $(readlink $one/venv); done")
    assert there.venvs == sorted(set(used.split()))
    assert len(there.venvs) == len({click_of(str(version)) for version in range(1 + REDEPLOYS, 1 + REDEPLOYS - 3, -1)})
    assert [entry["result"] for entry in there.record] == ["live"] * (1 + REDEPLOYS)
    assert [entry["release"] for entry in there.record] == redeploys.releases


def test_a_rollback_under_load_brings_code_and_dependencies_back(redeploys: Redeploys, say: Say) -> None:
    assert click_of(LAST) != click_of(str(int(LAST) - 1))
    with visitors() as loads:
        run = deploying.playbook("rollback", apps=[APPS["left"]])
        assert run.code == 0, run.output
        assert live() == redeploys.releases[-2]
        serves(str(int(LAST) - 1))
        assert {answer.status for answer in answers(f"/static/asset-{LAST}.css")} == {200}
        # And forward again, to a release by its name.
        forward = deploying.playbook("rollback", apps=[APPS["left"]], release=redeploys.releases[-1])
        assert forward.code == 0, forward.output
        assert live() == redeploys.releases[-1]
        serves(LAST)
    for name, load in loads.items():
        say(f"{name}, rollback in {run.seconds:.1f} s and forward in {forward.seconds:.1f} s: {load.summary}")
        crowd.went_well(load.summary)
        assert list(load.summary.versions)[:2] == [LAST, str(int(LAST) - 1)]
    for address in HOSTS.values():
        assert [entry["action"] for entry in deploying.on_host(address, "left").record[-2:]] == ["rollback", "rollback"]


def test_without_an_earlier_release_a_rollback_says_so(redeploys: Redeploys) -> None:
    before = main_pids("right")
    run = deploying.playbook("rollback", apps=[APPS["right"]])
    assert run.code != 0
    assert "cannot be rolled back: no earlier good release is on this host" in run.output, run.output
    assert main_pids("right") == before


def test_the_client_sees_what_a_plain_restart_does(redeploys: Redeploys, say: Say) -> None:
    release = live()
    with visitors() as loads:
        time.sleep(2)
        for address in HOSTS.values():
            deploying.shell(address, f"systemctl restart left@{release}.service")
        time.sleep(3)
    for name, load in loads.items():
        say(f"{name}, systemctl restart: {load.summary}")
        assert load.summary.failed > 0


def why(output: str) -> set[str]:
    """Return what deploy.yml says was different, for each host."""
    return set(re.findall(r"because of other (.+?) than [0-9a-f]{12}", " ".join(output.split())))


def base64_of(secret: str) -> list[str]:
    """Return what a secret looks like inside of something in base64, wherever it begins there."""
    shifted = (base64.b64encode(b"x" * shift + secret.encode()).decode() for shift in range(3))
    return [text[4 : len(text) // 4 * 4 - 4] for text in shifted]


def test_settings_are_part_of_the_release(redeploys: Redeploys, sources: Callable[[str], Path], say: Say) -> None:
    source = sources(LAST)
    secret = {"secrets": {"PROBE_TOKEN": "unspoken-number-two"}}
    auto = {"workers": "auto", "threads": "auto", "limits": {"MemoryMax": "640M"}}
    ids = [live()]
    assert workers_of() == {2}
    assert (setting("PROBE_TOKEN"), setting("PROBE_COLOUR")) == ({"unspoken-one"}, {"green"})

    run = deploy(left(source, workers=3), "-v")
    assert why(run.output) == {"server"} and workers_of() == {3}
    ids.append(live())

    # With a secret in it, and as much output as there can be; and sized by the memory that is allowed.
    run = deploy(left(source, **auto, **secret), "-vvvv", "--diff")
    assert why(run.output) == {"secrets, server"} and setting("PROBE_TOKEN") == {"unspoken-number-two"}
    for text in ("unspoken", *base64_of("unspoken-number-two")):
        assert text not in run.output
    reason = "2 workers: 40% of 640 MiB memory (MemoryMax) at 128 MiB a worker; 4 threads each"
    assert " ".join(run.output.split()).count(reason) >= len(HOSTS), run.output
    say(reason)
    assert workers_of() == {2}
    ids.append(live())
    for address in HOSTS.values():
        limit = deploying.shell(address, f"systemctl show --value --property=MemoryMax left@{ids[-1]}.service")
        assert limit == str(640 * 2**20)

    blue = left(source, **auto, **secret, env={"PROBE_COLOUR": "blue"})
    run = deploy(blue, "-v")
    assert why(run.output) == {"env"} and setting("PROBE_COLOUR") == {"blue"}
    ids.append(live())
    assert len(set(ids)) == len(ids)
    serves(LAST)

    before = main_pids("left")
    again = deploy(blue)
    assert re.findall(r"changed=(\d+)", again.output) == ["0"] * len(HOSTS), again.output
    assert main_pids("left") == before and live() == ids[-1]
    say(f"with nothing to do: {again.seconds:.1f} s")

    # A rollback brings the settings back with the rest, whatever the inventory says of later releases.
    later = {**blue, "wsgi": "elsewhere:app", "health": {"path": "/elsewhere", "status": 200}, "secrets": {}}
    back = deploying.playbook("rollback", apps=[later])
    assert back.code == 0, back.output
    assert live() == ids[-2]
    assert (setting("PROBE_COLOUR"), setting("PROBE_TOKEN")) == ({"green"}, {"unspoken-number-two"})


def test_status_says_what_there_is(redeploys: Redeploys) -> None:
    run = deploying.playbook("status")
    assert run.code == 0, run.output
    assert re.findall(r"changed=(\d+)", run.output) == ["0"] * len(HOSTS)
    for name, address in HOSTS.items():
        said = run.output[run.output.index(f"ok: [{name}] => \n") :]
        for app in APPS:
            there = deploying.on_host(address, app)
            about = said[said.index(f"{app}: {there.live}") :]
            facts = next(entry for entry in reversed(there.record) if entry["release"] == there.live)
            assert re.match(rf"{app}: {there.live} \(.+\) is live, \d+ (s|min) old", about), about
            assert "health 200, instance active, " in about
            memory = re.search(r"instance active, (\d+) MiB", about)
            assert memory and 10 < int(memory[1]) < 640
            way_back = "a rollback goes to" if len(there.releases) > 1 else "there is no earlier release"
            assert f"kept: {', '.join(there.releases)}; {way_back}" in about
            assert f"{facts['time']} {facts['action']} {there.live} live" in about
