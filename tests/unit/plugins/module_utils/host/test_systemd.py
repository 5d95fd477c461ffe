# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is read from systemd and the kernel, and what is written for them."""

from __future__ import annotations

import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import systemd
from ansible_collections.flaskops.server.plugins.module_utils.host.environment import environment_file, read_environment
from ansible_collections.flaskops.server.plugins.module_utils.host.files import write_file
from ansible_collections.flaskops.server.plugins.module_utils.host.process import children, descendants
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import SystemdError, UnitState

NASTY = [
    "",
    " padded ",
    "quotes \" and ' and `back`",
    "back\\slash \\\\ \\n at the end \\",
    "$HOME ${HOME} $$ %i %%",
    "two\nlines\n",
    'a\nKEY="other"\n',
    "tab\tand\rreturn\r\n",
    "# no comment ; nor here = x",
    "ünï©ødé \U0001f600 \u2028",
]


def test_an_environment_file_gives_back_what_went_in(tmp_path: Path) -> None:
    variables = {f"KEY_{index}": value for index, value in enumerate(NASTY)}
    path = tmp_path / "env"
    write_file(path, environment_file(variables), 0o600, os.getgid())
    assert read_environment(path) == variables


@pytest.mark.parametrize("seed", range(20))
def test_an_environment_file_of_anything(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    variables = {f"K{n}": "".join(dice.choices('"\\$`=\n\r\t #%aé', k=dice.randint(0, 12))) for n in range(20)}
    write_file(tmp_path / "env", environment_file(variables), 0o600, os.getgid())
    assert read_environment(tmp_path / "env") == variables


def test_an_environment_file_as_systemd_takes_it() -> None:
    # In double quotes systemd takes a backslash away before these, and only before these (systemd.exec(5)).
    assert environment_file({"B": 'a"b\\c$d`e', "A": "'x'"}) == 'A="\'x\'"\nB="a\\"b\\\\c\\$d\\`e"\n'


def test_children() -> None:
    assert children(2**22 + 1) == frozenset()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        if Path("/proc/self/task").is_dir():
            assert child.pid in children(os.getpid())


def test_children_of_every_thread() -> None:
    with (
        ThreadPoolExecutor(1) as thread,
        thread.submit(subprocess.Popen, ["cat"], stdin=subprocess.PIPE).result() as child,
    ):
        assert child.pid in children(os.getpid())


def test_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "cat; true"], stdin=subprocess.PIPE) as child:
        while not (found := descendants(child.pid)):
            time.sleep(0.01)
        assert set(found) == children(child.pid)
        assert {child.pid, *found} <= set(descendants(os.getpid()))


def test_write_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, group = tmp_path / "deep" / "file", os.getgid()
    previous = os.umask(0)
    try:
        assert write_file(path, "a\r\nb", 0o640, group)
    finally:
        os.umask(previous)
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"a\r\nb", 0o640)
    inode = path.stat().st_ino
    assert not write_file(path, "a\r\nb", 0o640, group)
    assert path.stat().st_ino == inode
    assert write_file(path, "a\r\nb", 0o600, group)
    assert path.stat().st_mode & 0o7777 == 0o600

    def full(*_unused: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_file(path, "new", 0o600, group)
    # Whoever reads sees the old content, whole.
    assert path.read_bytes() == b"a\r\nb"
    monkeypatch.undo()
    # What a dead run left half written is in nobody's way.
    path.with_name(".file.new").write_text("a long rest of a dead run")
    assert write_file(path, "new", 0o600, group)
    assert (path.read_text(), os.listdir(path.parent)) == ("new", ["file"])


def test_write_file_is_never_readable_for_others_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    fchmod = os.fchmod

    def look(descriptor: int, mode: int) -> None:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        fchmod(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", look)
    write_file(tmp_path / "secrets.env", "KEY=1", 0o600, os.getgid())
    assert modes == [0o600]


class Said:
    """subprocess.run that says what a test wants, and keeps what it was asked."""

    def __init__(self, stdout: str = "", stderr: str = "", returncode: int = 0) -> None:
        self.asked: list[list[str]] = []
        self.answer = subprocess.CompletedProcess([], returncode, stdout, stderr)

    def __call__(self, command: list[str], **_unused: Any) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        return self.answer


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    def function(**answer: Any) -> Said:
        said = Said(**answer)
        monkeypatch.setattr(systemd.subprocess, "run", said)
        return said

    return function


@pytest.mark.parametrize(
    ("text", "state", "dead"),
    [
        (
            "ActiveState=active\nNRestarts=0\nMainPID=42\nResult=success\nMemoryCurrent=1048576\n"
            "ActiveEnterTimestamp=Fri 2026-01-30 12:00:00 UTC\n",
            UnitState("active", 0, 42, "success", 2**20, "Fri 2026-01-30 12:00:00 UTC"),
            False,
        ),
        (
            "ActiveState=activating\nNRestarts=0\nMemoryCurrent=[not set]\n",
            UnitState("activating", 0, 0, "", None, ""),
            False,
        ),
        (
            "ActiveState=activating\nSubState=auto-restart\nNRestarts=0\n",
            UnitState("activating", 0, 0, "", None, "", "auto-restart"),
            True,
        ),
        ("ActiveState=activating\nNRestarts=1\n", UnitState("activating", 1, 0, "", None, ""), True),
        ("ActiveState=failed\nResult=exit-code\nMainPID=\n", UnitState("failed", 0, 0, "exit-code", None, ""), True),
        (f"ActiveState=active\nMemoryCurrent={2**64 - 1}\n", UnitState("active", 0, 0, "", None, ""), False),
        ("", UnitState("inactive", 0, 0, "", None, ""), True),
    ],
)
def test_state(says: Any, text: str, state: UnitState, dead: bool) -> None:
    says(stdout=text)
    found = Systemd().state("shop@abc.service")
    assert (found, found.is_dead) == (state, dead)


def test_the_units_of_all_releases(says: Any) -> None:
    said = says(
        stdout="shop@abc.service loaded active running shop, release abc\n"
        "shop_mail@abc.timer loaded active waiting x\nshop@def.service loaded failed failed x\n\n"
    )
    assert Systemd().releases("shop") == {
        "abc": ["shop@abc.service", "shop_mail@abc.timer"],
        "def": ["shop@def.service"],
    }
    # No unit of an app whose name only begins alike.
    assert set(said.asked[0][-6:]) == {
        f"shop{more}@*.{kind}" for more in ("", "_*") for kind in ("service", "socket", "timer")
    }


def test_what_systemctl_refuses_is_said(says: Any) -> None:
    says(stderr="Failed to start x.service: Unit not found.\n", returncode=5)
    with pytest.raises(SystemdError, match=r"systemctl start --no-block x\.service: Failed to start"):
        Systemd().start("x.service")
    Systemd().stop("x.service")


@pytest.mark.parametrize(("state", "kills"), [("inactive", False), ("deactivating", True)])
def test_what_does_not_end_in_a_moment_is_killed(
    says: Any, monkeypatch: pytest.MonkeyPatch, state: str, kills: bool
) -> None:
    monkeypatch.setattr(systemd, "_MOMENT", 0.1)
    said = says(stdout=f"ActiveState={state}\n")
    Systemd().kill("x.service")
    verbs = [command[1] for command in said.asked]
    assert verbs[0] == "stop" and "--no-block" in said.asked[0]
    assert ("kill" in verbs) is kills
    assert verbs[-2:] == ["stop", "reset-failed"]


def test_stopping_nothing_asks_nothing(says: Any) -> None:
    said = says()
    Systemd().stop()
    assert said.asked == []


def test_the_journal_of_one_unit_since_a_time(says: Any) -> None:
    said = says(stdout="one\ntwo\n")
    assert Systemd().journal("u", 5, since=1234.9) == ["one", "two"]
    assert said.asked[0] == ["journalctl", "--sync"]
    assert said.asked[1][-3:] == ["--lines=5", "--since=@1234", "_SYSTEMD_UNIT=u"]


def test_only_this_apps_faults_count(says: Any) -> None:
    says(
        stderr="/etc/systemd/system/shop@.service:9: Unknown key\n/lib/systemd/system/other.service: bad\nshop.service: x\n"
    )
    assert len(Systemd().verify("shop@abc.service")) == 2


@pytest.mark.parametrize(("enabled", "asked"), [(True, 0), (False, 1)])
def test_enable_asks_only_where_it_is_needed(says: Any, tmp_path: Path, enabled: bool, asked: int) -> None:
    said = says()
    (tmp_path / "multi-user.target.wants").mkdir()
    if enabled:
        (tmp_path / "multi-user.target.wants/shop.service").symlink_to("x")
    Systemd().enable("shop.service", tmp_path)
    assert len(said.asked) == asked
