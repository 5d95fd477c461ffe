# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The switch: one rename of the pointer, the wait until nobody uses the old release, and the way back."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Host

#: Seconds after the switch in which a request may still be on its way to the old instance, and a new one that dies at
#: once is noticed.
SETTLE = 0.5
#: Seconds between two looks at the connections of an instance.
POLL = 0.1


def make(host: Host, release: str, old: str | None) -> None:
    """Let visitors have a release."""
    layout = host.layout
    if old and old != release:
        # Pages of the old release still ask for its static files; nginx finds them through this link.
        _replace_link(layout.release(release) / "previous", Path("..") / old)
    # Before the switch: whatever happens from here on, a boot starts what the pointer says.
    host.systemd.enable(layout.boot_unit, layout.unit_dir)
    _replace_link(layout.live, Path("releases") / release)
    host.systemd.call("start", "--no-block", layout.boot_unit)


def revert(host: Host, old: str) -> None:
    """Let visitors have the release that they had before."""
    _replace_link(host.layout.live, Path("releases") / old)


def drain(host: Host, old: str, patience: float, watched: str | None = None) -> bool:
    """Wait until nobody uses an instance any more.

    :param patience: seconds that its server may take to finish open requests.
    :param watched: the unit of the release that replaces it.
    :returns: False as soon as the watched one has died.
    """
    socket = str(host.layout.instance_socket(old))
    # Its own: the release that follows can have another server.
    patience = float(host.layout.manifest(old).get("drain_seconds", patience))
    deadline = host.clock.monotonic() + SETTLE + patience
    host.clock.sleep(SETTLE)
    while True:
        if watched and host.systemd.state(watched).is_dead:
            return False
        if not host.connections(socket) or host.clock.monotonic() > deadline:
            return True
        host.clock.sleep(POLL)


def _replace_link(link: Path, target: Path) -> None:
    """Make a link lead elsewhere in one step, and have it on disk."""
    aside = link.with_name(f".{link.name}.new")
    with contextlib.suppress(FileNotFoundError):
        aside.unlink()
    os.symlink(target, aside)
    os.replace(aside, link)
    directory = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
