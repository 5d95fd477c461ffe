# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One deploy at a time for each app: who is refused, who goes on, and when a dead run's claim ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import lock
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import (
    LockedError,
    claim,
    held_by,
    root_directory,
)

MINE = {"token": "mine", "who": "ann@desk", "pid": 7, "controller": "desk"}
HERS = {"token": "hers", "who": "eve@lap", "pid": 8, "controller": "lap"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock" / "shop.json"


def take(path: Path, run: dict[str, Any], dead: str | None = None, **carried: Any) -> dict[str, Any]:
    """Do one step of a run: return what it found in its claim, and leave something there."""
    with claim(path, run, dead) as held:
        found = dict(held.content)
        held.content.update(carried)
        held.save()
        return found


def test_a_run_goes_on_with_what_it_carries(path: Path) -> None:
    since = take(path, MINE, verified="abcabcabcabc")["since"]
    found = take(path, MINE)
    assert (found["verified"], found["since"]) == ("abcabcabcabc", since)
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_run_is_refused_and_told_by_whom(path: Path) -> None:
    take(path, MINE)
    before = path.read_text()
    with pytest.raises(
        LockedError, match=r"another deploy has the lock: ann@desk \(process 7\), since 20..-..-.. "
    ) as caught:
        take(path, HERS)
    assert (caught.value.holder["token"], caught.value.busy) == ("mine", False)
    assert path.read_text() == before


def test_a_dead_run_is_taken_over_and_leaves_nothing(path: Path) -> None:
    take(path, MINE, verified="abcabcabcabc")
    assert "verified" not in take(path, HERS, dead="mine")
    with pytest.raises(LockedError):
        take(path, MINE)


@pytest.mark.parametrize(("age", "taken"), [(lock.LEASE - 60, False), (lock.LEASE + 1, True)])
def test_a_silent_run_is_taken_over_after_the_lease(path: Path, age: int, taken: bool) -> None:
    take(path, MINE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "touched": time.time() - age}))
    if taken:
        take(path, HERS)
    else:
        with pytest.raises(LockedError):
            take(path, HERS)


@pytest.mark.parametrize("text", ["", '{"token": "mi', "[]", "{}"])
def test_a_claim_that_was_never_written_is_nobodys(path: Path, text: str) -> None:
    root_directory(path.parent)
    path.write_text(text)
    take(path, HERS)
    assert json.loads(path.read_text())["token"] == "hers"


def test_a_step_that_works_holds_even_against_its_own_run(path: Path) -> None:
    with claim(path, MINE):
        for run, dead in ((HERS, "mine"), (MINE, None)):
            with pytest.raises(LockedError) as caught:
                take(path, run, dead)
            assert (caught.value.busy, caught.value.holder["who"]) == (True, "ann@desk")


WORKS = """\
import sys, time
from pathlib import Path
from ansible_collections.flaskops.server.plugins.module_utils.host.lock import claim
with claim(Path(sys.argv[1]), {"token": "mine", "who": "ann@desk", "pid": 7}, expendable=sys.argv[2] == "yes"):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("expendable", [True, False])
def test_the_working_step_of_a_dead_run_is_killed_where_it_may_be(path: Path, expendable: bool) -> None:
    command = [sys.executable, "-c", WORKS, str(path), "yes" if expendable else "no"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout and process.stdout.readline() == b"holds\n"
        try:
            with pytest.raises(LockedError):
                take(path, HERS, dead="another")
            if expendable:
                take(path, HERS, dead="mine")
                assert process.wait(5) == -signal.SIGKILL
            else:
                with pytest.raises(LockedError, match="ann@desk"):
                    take(path, HERS, dead="mine")
                assert process.poll() is None
        finally:
            process.kill()


def test_a_failing_step_gives_the_file_free_but_keeps_the_claim(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claim(path, MINE):
        1 / 0  # noqa: B018
    take(path, MINE)
    with pytest.raises(LockedError):
        take(path, HERS)


def test_a_dropped_claim_is_gone(path: Path) -> None:
    with claim(path, MINE) as held:
        held.release_lock()
        held.release_lock()
    assert not path.exists()
    take(path, HERS)


def test_a_file_that_goes_between_open_and_lock_is_not_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock
    taken = []

    def removed_first(descriptor: int, operation: int) -> None:
        if not taken:
            path.unlink()
        taken.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with claim(path, MINE):
        assert len(taken) == 2
        assert json.loads(path.read_text())["token"] == "mine"


def test_a_shorter_claim_leaves_no_rest_of_the_longer(path: Path) -> None:
    take(path, MINE, text="x" * 5000)
    with claim(path, MINE) as held:
        del held.content["text"]
        held.save()
        assert "text" not in json.loads(path.read_text())


def test_all_claims_of_a_run_on_a_host(tmp_path: Path) -> None:
    for name, run in (("a", MINE), ("b", HERS), ("c", MINE)):
        take(tmp_path / f"{name}.json", run)
    (tmp_path / "d.json").write_text("half")
    assert [path.name for path in held_by(tmp_path, "mine")] == ["a.json", "c.json"]


def test_no_descriptor_stays_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    take(path, MINE)
    with pytest.raises(LockedError):
        take(path, HERS)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("expendable", [True, False])
def test_a_step_that_still_works_for_a_dead_run(path: Path, expendable: bool) -> None:
    ready, says = os.pipe()
    child = os.fork()
    if child == 0:
        with claim(path, MINE, expendable=expendable):
            os.write(says, b"x")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    try:
        with pytest.raises(LockedError):
            take(path, HERS)
        if expendable:
            take(path, HERS, dead="mine")
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        else:
            # What changes the live world, a migration or the switch, comes to its end.
            with pytest.raises(LockedError) as caught:
                take(path, HERS, dead="mine")
            assert caught.value.busy
    finally:
        if not expendable:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(ready)
        os.close(says)


def test_a_directory_that_is_not_ones_own_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    root_directory(mine)
    root_directory(mine)
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    for name in ("link", "file", "open"):
        with pytest.raises(PermissionError, match="with mode 0700"):
            root_directory(tmp_path / name)
    monkeypatch.setattr(os, "geteuid", lambda: mine.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="that root owns"):
        root_directory(mine)


def test_what_is_no_id_becomes_no_path(path: Path) -> None:
    root_directory(path.parent)
    odd = {"release": "LIVE.service.d/../victim@*", "verified": "../../etc", "live": ["x"], "created": True}
    path.write_text(json.dumps({**MINE, **odd, "since": 1.0, "touched": time.time()}))
    found = take(path, MINE)
    assert not {"release", "verified", "live"} & found.keys()
    assert found["token"] == "mine"


def test_a_lock_that_is_a_link_is_not_followed(path: Path) -> None:
    root_directory(path.parent)
    path.symlink_to(path.parent.parent / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        take(path, MINE)
    assert not (path.parent.parent / "precious").exists()
