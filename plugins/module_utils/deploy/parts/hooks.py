# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commands of the inventory at moments of a deploy."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.deploy import commands
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part


class Hooks(Part):
    """``hooks``: each runs in the release that is there at its moment, as the app's user."""

    def begins(self, live: Release) -> None:
        # In a damaged release no command can run, and this deploy may be the one that replaces it.
        if live.host.layout.is_whole(live.id):
            self._run("before_stage", live)

    def check(self, release: Release) -> None:
        self._run("after_stage", release)

    def switching(self, release: Release) -> None:
        self._run("before_live", release)

    def finished(self, release: Release) -> None:
        self._run("after_live", release)

    def failed(self, live: Release) -> None:
        self._run("on_failure", live)

    @staticmethod
    def _run(name: str, release: Release) -> None:
        commands.shell(release, name, release.app["hooks"][name])
