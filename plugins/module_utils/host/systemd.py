# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Starting, stopping and verifying units, and reading their journal."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import UnitStates

#: systemctl's exit status for a unit that is not loaded (systemctl(1), "Exit status").
NOT_LOADED = 5

#: Seconds that an instance which nobody uses has to end by itself.
_MOMENT = 2.0


class Systemd(UnitStates):
    """systemctl, systemd-analyze and journalctl: one method for each thing that a deploy needs."""

    def start(self, unit: str) -> None:
        self.call("start", "--no-block", unit)

    def stop(self, *units: str) -> None:
        """Stop units and forget that they failed, so that their names can be used again."""
        if units:
            self.call("stop", *units, allowed=(NOT_LOADED,))
            # A unit that is not loaded any more has nothing to forget; systemctl says 1 for it.
            self.call("reset-failed", *units, allowed=(1, NOT_LOADED))

    def kill(self, *units: str) -> None:
        """Stop units that serve nobody; those that do not stop within a moment are killed."""
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
        """Have a unit started at boot. systemctl reloads systemd each time, so it is called only if needed."""
        if not (unit_dir / "multi-user.target.wants" / unit).is_symlink():
            self.call("enable", "--quiet", unit)

    def has_loaded(self, unit: str, drop_in: Path) -> bool:
        """Say whether systemd reads a unit with the given drop-in."""
        return str(drop_in) in self.call("show", "--property=DropInPaths", unit)

    def reload(self) -> None:
        self.call("daemon-reload")

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
