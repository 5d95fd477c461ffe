# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The app's own tests, and whether its callable can be imported at all."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.deploy import commands
from ansible_collections.flaskops.server.plugins.module_utils.deploy.context import Release
from ansible_collections.flaskops.server.plugins.module_utils.deploy.errors import Where
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part

IMPORT_CHECK = """\
import importlib, sys
module, _, name = sys.argv[1].partition(":")
target = importlib.import_module(module)
for part in name.partition("(")[0].split("."):
    target = getattr(target, part)
if not callable(target):
    raise TypeError(f"{sys.argv[1]} is not callable")
"""


class Checks(Part):
    """``checks``, but for what the installer checks while it builds."""

    def check(self, release: Release) -> None:
        if command := release.app["checks"]["tests"]:
            words = f"failed its tests ({command})"
            commands.in_release(release, Where.CHECK, ["/bin/sh", "-c", command], words)

    def check_started(self, release: Release) -> None:
        """Import what the server imports: its own words for what goes wrong there are the clearest."""
        wsgi = release.app["wsgi"]
        if release.app["checks"]["import"] and wsgi:
            # The first one on the path is the release's own.
            command = ["/bin/sh", "-c", 'exec python -c "$@"', "sh", IMPORT_CHECK, wsgi]
            limit = release.app["health"]["timeout"]
            commands.in_release(release, Where.CHECK, command, f"cannot be imported as {wsgi}", limit)
