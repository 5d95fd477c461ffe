# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""systemd's files of the app and of one release: brought up to date, and verified before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.host.errors import OUTPUT_LINES
from ansible_collections.flaskops.server.plugins.module_utils.host.files import write_file
from ansible_collections.flaskops.server.plugins.module_utils.host.unit_states import SystemdError


def install(release: Release, units: Sequence[str]) -> None:
    """Bring systemd's files up to date, and have systemd check the units of the release.

    :param units: those that the release starts.
    :raises DeployError: when systemd finds a fault in them.
    """
    layout, systemd = release.host.layout, release.host.systemd
    changed = False
    for name, content in release.request.files.items():
        if name.startswith("units/"):
            changed |= write_file(layout.unit_dir / name.removeprefix("units/"), content, 0o644)
    drop_in, is_new, rewritten = layout.drop_in(release.id), False, False
    for source, target in layout.release_units(release.id).items():
        is_new |= not target.exists()
        rewritten |= write_file(target, source.read_text(), 0o644)
    if not rewritten and not changed:
        return
    # systemd sees a new file of a unit that it has not loaded yet by itself; a reload takes 0.1 to 0.4 s.
    if changed or not is_new or not systemd.has_loaded(layout.unit(release.id), drop_in):
        systemd.reload()
    for unit in units:
        if wrong := systemd.verify(unit):
            raise DeployError(Where.START, "has a unit that systemd refuses", wrong[-OUTPUT_LINES:])


def start(release: Release, units: Sequence[str]) -> float:
    """Start units, and return when, on the monotonic clock.

    :raises DeployError: when systemd refuses to.
    """
    for unit in units:
        try:
            release.host.systemd.start(unit)
        except SystemdError as error:
            raise DeployError(Where.START, "could not be started", [str(error)]) from error
    return release.host.clock.monotonic()
