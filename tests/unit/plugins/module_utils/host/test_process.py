# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commands that end, that do not, and that leave something behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.flaskops.server.plugins.module_utils.host import process
from ansible_collections.flaskops.server.plugins.module_utils.host.process import Finished, descendants, run, started


def test_both_outputs_come_in_their_order_whatever_their_bytes() -> None:
    done = run(["sh", "-c", r"echo one; echo two >&2; printf '\377\n'; cat; exit 3"], timeout=10)
    assert done == Finished(3, "one\ntwo\n�\n")


def test_the_last_lines_are_those_that_say_something() -> None:
    assert Finished(0, "a\n10 %\r20 %\r\nb \n\n").last(2) == "20 %\nb"


@pytest.mark.parametrize("more", ["sleep 61", "setsid sleep 61 & sleep 61", "sh -c 'sleep 61; true'; true"])
def test_what_does_not_end_is_killed_with_all_that_it_started(more: str) -> None:
    before = time.monotonic()
    done = run(["sh", "-c", f"echo begun; {more}"], timeout=0.5)
    assert done == Finished(None, "begun\n")
    assert time.monotonic() - before < 2
    assert not [pid for pid in descendants(os.getpid()) if b"61" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_daemon_that_is_left_behind_does_not_hold_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LAST_WORDS", 0.2)
    before = time.monotonic()
    # Its parent has ended: nothing tells whose it was.
    done = run(["sh", "-c", "(setsid sleep 5 &); echo begun; sleep 60"], timeout=0.5)
    assert (done.code, done.output) == (None, "begun\n")
    assert time.monotonic() - before < 3


RUNS = """
import sys
from ansible_collections.flaskops.server.plugins.module_utils.host.process import run
run(["sh", "-c", "echo $$ > $0; exec sleep 60", sys.argv[1]], timeout=None, outlives=sys.argv[2] == "yes")
"""


@pytest.mark.parametrize("outlives", [True, False])
def test_what_it_runs_ends_with_it_or_not(tmp_path: Path, outlives: bool) -> None:
    told = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", RUNS, str(told), "yes" if outlives else "no"]
    with subprocess.Popen(command, env=environment) as runner:
        while not (told.exists() and told.read_text().strip()):
            time.sleep(0.02)
        runner.kill()
    pid = int(told.read_text())
    time.sleep(0.2)
    assert bool(started(pid)) is outlives
    if outlives:
        os.kill(pid, signal.SIGKILL)


def test_when_a_process_started() -> None:
    assert started(os.getpid())
    with subprocess.Popen(["true"]) as child:
        time.sleep(0.1)
        # It has ended, and nobody has asked for its exit status.
        assert started(child.pid) == ""
    assert started(child.pid) == ""
