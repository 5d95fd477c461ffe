# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an app the hooks of a release read."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.values import COMMANDS

HOOKS = {
    "before_stage": COMMANDS("Before anything is done, in the live release."),
    "after_stage": COMMANDS("In the staged release, before it starts."),
    "before_live": COMMANDS("In the proved release, before visitors get it."),
    "after_live": COMMANDS("In the live release."),
    "on_failure": COMMANDS("In the release that still serves."),
}

KEYS: Mapping[str, Field] = {
    "hooks": Field(
        "dict",
        "Commands at `before_stage`, `after_stage`, `before_live`, `after_live`, `on_failure`.",
        default={},
        fields=HOOKS,
    ),
}
