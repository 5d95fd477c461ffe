# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of an app the checks of a release read."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.flaskops.server.plugins.plugin_utils.spec.schema import Field

CHECKS = {
    "tests": Field(
        "str",
        "Command to run in the staged release as the app's user. If it fails, the release is refused.",
        multiline=True,
    ),
    "import": Field(
        "bool",
        "Import the app and look up the callable while the instance starts. The import error becomes the message of the deploy.",
        default=True,
    ),
    "pip_check": Field(
        "bool", "Run `pip check`. Packages with conflicting requirements refuse the release.", default=True
    ),
    "audit": Field("bool", "Check the installed packages for known vulnerabilities.", default=False, planned=True),
}

KEYS: Mapping[str, Field] = {
    "checks": Field("dict", "Checks that a release has to pass before it goes live.", default={}, fields=CHECKS),
}
