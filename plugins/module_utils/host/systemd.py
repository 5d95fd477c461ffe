# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the engine asks of systemd, the journal and the kernel about an instance."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.host.process import children

#: systemctl's exit status for a unit that is not loaded (systemctl(1), "Exit status").
NOT_LOADED = 5

#: What a release can have units of.
_KINDS = ("service", "socket", "timer")

#: Seconds that an instance which nobody uses has to end by itself.
_MOMENT = 2.0

#: States of /proc/net/unix (include/uapi/linux/net.h): SS_CONNECTING, which is a connection that the server has not
#: accepted yet, and SS_CONNECTED.
_IN_USE = ("02", "03")


class SystemdError(Exception):
    """systemctl refused; the message is its own."""


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit: its state, how often it was restarted, its main process, its memory in bytes."""

    active: str
    restarts: int
    main_pid: int
    result: str
    memory: int | None
    since: str
    sub: str = ""

    @property
    def is_dead(self) -> bool:
        # Between its end and the next try an instance is "activating" to systemd.
        ended = self.active in ("failed", "inactive", "deactivating") or self.sub.startswith("auto-restart")
        return ended or self.restarts > 0


class Systemd:
    """systemctl and journalctl, one method for each thing the engine needs."""

    def call(self, *arguments: str, allowed: tuple[int, ...] = ()) -> str:
        """Run systemctl.

        :param allowed: exit statuses beside 0 that are no failure.
        :raises SystemdError: when it fails.
        """
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode not in (0, *allowed):
            raise SystemdError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self, unit: str) -> None:
        self.call("start", "--no-block", unit)

    def stop(self, *units: str) -> None:
        """Stop units and forget that they failed, so that their names can be used again."""
        if units:
            self.call("stop", *units, allowed=(NOT_LOADED,))
            # A unit that is not loaded any more has nothing to forget; systemctl says 1 for it.
            self.call("reset-failed", *units, allowed=(1, NOT_LOADED))

    def end(self, *units: str) -> None:
        """Stop units that nobody uses: one that does not end in a moment is killed, for it has nothing to finish."""
        if units:
            self.call("stop", "--no-block", *units, allowed=(NOT_LOADED,))
            deadline = time.monotonic() + _MOMENT
            while slow := [unit for unit in units if self.state(unit).active not in ("inactive", "failed")]:
                if time.monotonic() > deadline:
                    # One that has just ended is not there to be killed; systemctl says 1 for it.
                    self.call("kill", "--signal=SIGKILL", *slow, allowed=(1, NOT_LOADED))
                    break
                time.sleep(0.05)
            self.stop(*units)

    def enable(self, unit: str, unit_dir: Path) -> None:
        """Have a unit started at boot. systemctl reloads systemd for it each time, so it is asked only where it is needed."""
        if not (unit_dir / "multi-user.target.wants" / unit).is_symlink():
            self.call("enable", "--quiet", unit)

    def has_loaded(self, unit: str, drop_in: Path) -> bool:
        """Say whether systemd reads a unit with the given drop-in."""
        return str(drop_in) in self.call("show", "--property=DropInPaths", unit)

    def reload(self) -> None:
        self.call("daemon-reload")

    def state(self, unit: str) -> UnitState:
        wanted = "ActiveState,SubState,NRestarts,MainPID,Result,MemoryCurrent,ActiveEnterTimestamp"
        lines = self.call("show", "--property", wanted, unit).splitlines()
        said = dict(line.partition("=")[::2] for line in lines)
        memory = said.get("MemoryCurrent", "")
        return UnitState(
            active=said.get("ActiveState", "inactive"),
            restarts=int(said.get("NRestarts") or 0),
            main_pid=int(said.get("MainPID") or 0),
            result=said.get("Result", ""),
            # Without memory accounting systemd prints "[not set]" or 2**64-1.
            memory=int(memory) if memory.isdigit() and int(memory) < 2**63 else None,
            since=said.get("ActiveEnterTimestamp", ""),
            sub=said.get("SubState", ""),
        )

    def releases(self, name: str) -> dict[str, list[str]]:
        """Return the units of an app's releases that run or have failed, by the id of the release.

        The web instance is ``NAME@ID.service``; what a release has beside it is ``NAME_*@ID.*``.
        """
        patterns = [f"{name}{more}@*.{kind}" for more in ("", "_*") for kind in _KINDS]
        found: dict[str, list[str]] = {}
        for line in self.call("list-units", "--all", "--plain", "--no-legend", "--full", *patterns).splitlines():
            if unit := "".join(line.split()[:1]):
                found.setdefault(unit.partition("@")[2].rpartition(".")[0], []).append(unit)
        return found

    def journal(self, unit: str, lines: int, since: float = 0) -> list[str]:
        """Return the last lines that a unit's processes wrote.

        :param since: seconds since the epoch; not the invocation, for systemd may be starting the next one by now.
        """
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}", f"--since=@{int(since)}"]
        # What a process wrote just before it ended can be on its way to the journal still.
        subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
        done = subprocess.run(
            [*command, f"_SYSTEMD_UNIT={unit}"], capture_output=True, text=True, errors="replace", check=False
        )
        return done.stdout.splitlines()

    def verify(self, unit: str) -> list[str]:
        """Return what systemd-analyze finds wrong with a unit; a directive that systemd would ignore is wrong too."""
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
        )
        name = unit.partition("@")[0]
        # Faults of other units of the host are listed too; they are not this app's.
        return [line for line in done.stderr.splitlines() if f"{name}@" in line or f"{name}.service" in line]


def memory_of(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return the memory of a process and its children in bytes, what they share counted once (proc_pid_smaps(5)).

    For where systemd does not count: without the kernel's memory controller, as in some containers.
    """
    total = 0
    for process in (pid, *children(pid)):
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", (proc / str(process) / "smaps_rollup").read_text(), re.MULTILINE)
        except OSError:
            # It has ended meanwhile.
            continue
        total += int(found.group(1)) * 1024 if found else 0
    return total or None


def connections(socket_path: str, table: str) -> int:
    """Return how many connections a listening unix socket has.

    :param table: the text of /proc/net/unix (proc_net(5)): a connection carries the listener's path, accepted or not.
    """
    count = 0
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == socket_path and fields[5] in _IN_USE:
            count += 1
    return count
