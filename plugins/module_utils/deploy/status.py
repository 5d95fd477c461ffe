# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What there is of an app on a host: for people, and for monitoring."""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import health, record
from ansible_collections.flaskops.server.plugins.module_utils.host.front import NOT_REACHED, leads_to
from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import Systemd, memory_of
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.pid import container_pid

#: Seconds that the health question may take.
HEALTH_TIMEOUT = 5


def status(layout: Layout, systemd: Systemd, app: Mapping[str, Any], deploys: int) -> dict[str, Any]:
    """Return what there is of an app on this host.

    :param app: the app's checked spec.
    :param deploys: how many of the last deploys.
    """
    live = layout.live_id()
    entries = record.read(layout.record)
    facts = layout.facts(live)
    said: dict[str, Any] = {
        "app": layout.name,
        "live": live,
        "source": facts.get("source", {}),
        "staged": facts.get("staged"),
        "size": facts.get("size"),
        "previous": record.previous(entries, live, layout.usable_ids()),
        "releases": layout.staged_ids(),
        "deploys": entries[-deploys:] if deploys else [],
        "damaged": layout.missing(live) if live else [],
        "reachable": leads_to(layout),
        "health": "nothing is live",
        "instance": "none",
        "memory": None,
        "units": {},
        "parts": facts.get("parts", {}),
    }
    if live:
        state = systemd.state(layout.unit(live))
        main_pid = state.main_pid
        if main_pid and layout.runtime(live) == "image":
            main_pid = container_pid(layout.release(live), f"{layout.name}-{live}")
        # systemd counts what is below its unit, and a container is not.
        counted = state.memory is not None and main_pid == state.main_pid
        memory = state.memory if counted else memory_of(main_pid)
        units = systemd.releases(layout.name).get(live, [])
        said.update(instance=state.active, memory=memory, since=state.since)
        said["units"] = {unit: systemd.state(unit).active for unit in units if unit != layout.unit(live)}
        try:
            asked, socket = app["health"], layout.runtime_socket(live)
            answer = health.ask(
                socket, asked["path"], health.headers(app), HEALTH_TIMEOUT, asked.get("status"), app["domains"]
            )
            said["health"] = str(answer.status)
        except health.NoAnswerError as error:
            said["health"] = str(error)
    return said


def as_lines(said: Mapping[str, Any], now: float | None = None) -> list[str]:
    """Return a status for a person to read.

    :param now: seconds since the epoch, for tests.
    """
    if not said["live"]:
        lines = [f"{said['app']}: nothing is live"]
    else:
        memory = f", {said['memory'] // 2**20} MiB" if said["memory"] is not None else ""
        lines = [
            f"{said['app']}: {said['live']} ({record.version(said['source'])}) is live, {_age(said['staged'], now)} old",
            f"  health {said['health']}, instance {said['instance']}{memory}",
            f"  kept: {', '.join(said['releases'])}; a rollback goes to {said['previous'] or 'nothing, there is no earlier one'}",
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


def _age(staged: str | None, now: float | None) -> str:
    if not staged:
        return "of unknown age"
    seconds = int((time.time() if now is None else now) - timegm(time.strptime(staged, "%Y-%m-%dT%H:%M:%SZ")))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
