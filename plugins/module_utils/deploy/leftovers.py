# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Removing the leftovers of dead runs, before a release is staged."""

from __future__ import annotations

import shutil

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
