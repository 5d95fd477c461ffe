# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values that several keys take."""

from __future__ import annotations

from functools import partial

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

#: A command for a shell, which may have several lines.
COMMAND = Field("str", "A command.", multiline=True)
#: Commands, run by a shell as the app's user in the release.
COMMANDS = partial(Field, "list", default=[], items=COMMAND)
