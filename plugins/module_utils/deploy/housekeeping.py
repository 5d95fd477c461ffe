# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Removing the leftovers of dead runs, aborted releases, and releases that are no longer kept for a rollback."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.deploy import switch
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import SETUP, DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.host import record
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv import (
    remove_leftovers as remove_venv_leftovers,
)


def remove_leftovers(host: Host, keep: set[str], patience: float) -> None:
    """Remove what a dead run left: incomplete releases, and units that serve nobody.

    :param keep: releases that are not touched.
    :param patience: seconds that a server may take to finish open requests.
    :raises DeployError: when the app was not set up on this host.
    """
    layout, systemd = host.layout, host.systemd
    if not layout.home.is_dir():
        what = f"cannot be staged: {layout.home} is missing, the app was not set up on this host"
        raise DeployError(Where.STAGE, what, advice=SETUP)
    stray = {release: units for release, units in systemd.releases(layout.name).items() if release not in keep}
    # Of a run that died between the switch and its end, visitors may be on the old release still.
    visited = {entry.get("release") for entry in record.read(layout.record) if entry.get("result") == record.LIVE}
    for release, units in stray.items():
        if release in visited:
            switch.drain(host, release, patience)
            systemd.stop(*units)
    systemd.kill(*(unit for release, units in stray.items() if release not in visited for unit in units))
    complete = set(layout.staged_ids())
    for entry in layout.releases.iterdir() if layout.releases.is_dir() else ():
        if entry.name not in complete | keep:
            shutil.rmtree(entry)
    for entry in layout.home.glob(".*.new"):
        entry.unlink()
    remove_venv_leftovers(layout.venvs)


def abort(host: Host, release: str, created: bool) -> None:
    """Kill the units of a release; delete it if this run staged it."""
    host.systemd.kill(*sorted({host.layout.unit(release), *host.systemd.releases(host.layout.name).get(release, [])}))
    if created:
        delete(host, [release])


def prune(host: Host, keep: int) -> None:
    """Delete the releases that are not kept for a rollback.

    :param keep: how many are kept.
    """
    layout = host.layout
    delete(host, to_prune(record.read(layout.record), layout.live_id(), layout.staged_ids(), keep))


def to_prune(entries: Sequence[Mapping[str, Any]], live: str | None, staged: Iterable[str], keep: int) -> list[str]:
    """Return the releases to remove: all but the ``keep`` last good ones, the live one and the one before it."""
    staged = set(staged)
    kept = {release for release in (live, record.previous(entries, live, staged)) if release}
    recent = []
    for entry in reversed(entries):
        release = str(entry.get("release"))
        if entry.get("result") == record.LIVE and release in staged and release not in recent:
            recent.append(release)
    good = [release for release in recent if release not in record.bad(entries)]
    for release in good:
        if len(kept) >= keep:
            break
        kept.add(release)
    return sorted(staged - kept)


def delete(host: Host, releases: list[str]) -> None:
    """Delete releases with their units, and what they alone ran in."""
    layout = host.layout
    for release in releases:
        for path in layout.installed_units(release):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (layout.release(release), layout.staging(release)):
            remove_directory(path)
    # What the live release uses is used, even where its files are damaged.
    used = {*layout.staged_ids(), *filter(None, [layout.live_id()])}
    for runtime in host.runtimes.values():
        runtime.prune(sorted(used))


def remove_directory(path: Path) -> None:
    """Remove a release in one step for everybody who looks; a dead run's rest is taken away by the next one."""
    if path.is_dir():
        gone = path.with_name(f".removing-{path.name.lstrip('.')}")
        path.rename(gone)
        shutil.rmtree(gone)
