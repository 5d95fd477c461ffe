# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What systemd says of units: all that the module release_info needs of it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

#: What a release can have units of.
_KINDS = ("service", "socket", "timer")


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


class UnitStates:
    """The questions to systemctl that change nothing."""

    def call(self, *arguments: str, allowed: tuple[int, ...] = ()) -> str:
        """Run systemctl.

        :param allowed: exit statuses beside 0 that are no failure.
        :raises SystemdError: when it fails.
        """
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode not in (0, *allowed):
            raise SystemdError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def state(self, unit: str) -> UnitState:
        wanted = "ActiveState,SubState,NRestarts,MainPID,Result,MemoryCurrent,ActiveEnterTimestamp"
        lines = self.call("show", "--property", wanted, unit).splitlines()
        values = dict(line.partition("=")[::2] for line in lines)
        memory = values.get("MemoryCurrent", "")
        return UnitState(
            active=values.get("ActiveState", "inactive"),
            restarts=int(values.get("NRestarts") or 0),
            main_pid=int(values.get("MainPID") or 0),
            result=values.get("Result", ""),
            # Without memory accounting systemd prints "[not set]" or 2**64-1.
            memory=int(memory) if memory.isdigit() and int(memory) < 2**63 else None,
            since=values.get("ActiveEnterTimestamp", ""),
            sub=values.get("SubState", ""),
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
