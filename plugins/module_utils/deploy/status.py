# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The status of an app on a host, as data for monitoring and as lines for people."""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import health, record
from ansible_collections.flaskops.server.plugins.module_utils.host.front import NOT_REACHED, leads_to
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.process import children
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import UnitStates
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.pid import container_pid

#: Seconds that the health question may take.
HEALTH_TIMEOUT = 5


def status(layout: Layout, systemd: UnitStates, app: Mapping[str, Any], deploys: int) -> dict[str, Any]:
    """Return the status of an app on this host.

    :param app: the app's checked spec.
    :param deploys: how many of the last deploys to return.
    """
    live = layout.live_id()
    entries = record.read(layout.record)
    manifest = layout.manifest(live)
    said: dict[str, Any] = {
        "app": layout.name,
        "live": live,
        "source": manifest.get("source", {}),
        "staged": manifest.get("staged"),
        "size": manifest.get("size"),
        "previous": record.previous(entries, live, layout.usable_ids()),
        "releases": layout.staged_ids(),
        "deploys": entries[-deploys:] if deploys else [],
        "damaged": layout.missing(live) if live else [],
        "reachable": leads_to(layout),
        "health": "nothing is live",
        "instance": "none",
        "memory": None,
        "units": {},
        "parts": manifest.get("parts", {}),
    }
    if live:
        state = systemd.state(layout.unit(live))
        main_pid = state.main_pid
        if main_pid and layout.runtime(live) == "image":
            main_pid = container_pid(layout, live)
        # systemd counts what is below its unit, and a container is not.
        counted = state.memory is not None and main_pid == state.main_pid
        memory = state.memory if counted else memory_of(main_pid)
        units = systemd.releases(layout.name).get(live, [])
        said.update(instance=state.active, memory=memory, since=state.since)
        said["units"] = {unit: systemd.state(unit).active for unit in units if unit != layout.unit(live)}
        try:
            asked, socket = app["health"], layout.instance_socket(live)
            answer = health.ask(
                socket, asked["path"], health.headers(app), HEALTH_TIMEOUT, asked.get("status"), app["domains"]
            )
            said["health"] = str(answer.status)
        except health.NoAnswerError as error:
            said["health"] = str(error)
    return said


def as_lines(said: Mapping[str, Any], now: float | None = None) -> list[str]:
    """Return a status as lines of text.

    :param now: seconds since the epoch, for tests.
    """
    if not said["live"]:
        lines = [f"{said['app']}: nothing is live"]
    else:
        memory = f", {said['memory'] // 2**20} MiB" if said["memory"] is not None else ""
        lines = [
            f"{said['app']}: {said['live']} ({record.version(said['source'])}) is live, {_age(said['staged'], now)}",
            f"  health {said['health']}, instance {said['instance']}{memory}",
            f"  kept: {', '.join(said['releases'])}; {_rollback(said['previous'])}",
        ]
        if said["damaged"]:
            damage = ", ".join(said["damaged"])
            lines.insert(
                1, f"  damaged: {damage}. Next: ansible-playbook -i INVENTORY flaskops.server.deploy makes it again"
            )
    lines += [f"  {unit} {state}" for unit, state in sorted(said["units"].items())]
    if not said["reachable"]:
        lines.append(f"  {NOT_REACHED}")
    for entry in said["deploys"]:
        told = entry.get("reason") or "; ".join(entry.get("commands", ()))
        why = f": {told}" if told else ""
        lines.append(
            f"  {entry.get('time')} {entry.get('action')} {entry.get('release')} {entry.get('result')}{why} ({entry.get('by')})"
        )
    return lines


def memory_of(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return the memory of a process and its children in bytes, what they share counted once (proc_pid_smaps(5)).

    Used if systemd does not count it: without the kernel's memory controller, as in some containers.
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


def _rollback(previous: str | None) -> str:
    return f"a rollback goes to {previous}" if previous else "there is no earlier release to roll back to"


def _age(staged: str | None, now: float | None) -> str:
    if not staged:
        return "age unknown"
    seconds = int((time.time() if now is None else now) - timegm(time.strptime(staged, "%Y-%m-%dT%H:%M:%SZ")))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} old"
    return f"{seconds} s old"
