# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an app the hooks of a release read."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field
from ansible_collections.flaskops.server.plugins.plugin_utils.spec.values import COMMANDS

HOOKS = {
    "before_stage": COMMANDS("Run in the live release before the new one is staged. A failure refuses the deploy."),
    "after_stage": COMMANDS("Run in the staged release before it starts. A failure refuses the release."),
    "before_live": COMMANDS("Run in the verified release before it goes live. A failure refuses the release."),
    "after_live": COMMANDS(
        "Run in the new release after it went live. A failure fails the deploy, and the release stays live."
    ),
    "on_failure": COMMANDS("Run in the release that still serves after a deploy failed."),
}

KEYS: Mapping[str, Field] = {
    "hooks": Field(
        "dict",
        "Commands to run on every host at set points of a deploy, as the app's user.",
        default={},
        fields=HOOKS,
    ),
}
