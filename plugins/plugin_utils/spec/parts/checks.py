# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an app the checks of a release read."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

CHECKS = {
    "tests": Field("str", "A command that must succeed in the staged release, as the app's user.", multiline=True),
    "import": Field("bool", "Import the module and look the callable up, beside the starting instance.", default=True),
    "pip_check": Field("bool", "The installed packages must agree with each other.", default=True),
    "audit": Field("bool", "Look for known vulnerabilities.", default=False, planned=True),
}

KEYS: Mapping[str, Field] = {
    "checks": Field("dict", "`tests`, `import`, `pip_check`, `audit`.", default={}, fields=CHECKS),
}
