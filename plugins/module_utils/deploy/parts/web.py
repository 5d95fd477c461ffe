# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The web instance of a release: checked on its own socket, drained when another one takes its place."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.deploy import switch, verification
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import DeployError, Where
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.host.systemd import NOT_LOADED


class Web(Part):
    """What nginx connects to."""

    recorded = ("health",)

    def units(self, release: Release) -> list[str]:
        return [self._unit(release)]

    def verify(self, release: Release, started: float) -> None:
        verification.verify(release, self._unit(release), started)

    def switching(self, release: Release) -> None:
        verification.verify_again(release, self._unit(release))

    def switched(self, new: Release, old: Release | None) -> None:
        if old and not switch.drain(new.host, old.id, new.request.drain_seconds, watched=self._unit(new)):
            raise DeployError(Where.LIVE, "died right after it went live, and was taken back")

    def settled(self, new: Release, old: Release | None) -> None:
        if old:
            # Nobody waits for it: it has no connection left, and its server takes its time to end.
            new.host.systemd.call("stop", "--no-block", self._unit(old), allowed=(NOT_LOADED,))

    @staticmethod
    def _unit(release: Release) -> str:
        return release.host.layout.unit(release.id)
