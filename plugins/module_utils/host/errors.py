# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a release cannot be made, whatever part of it."""

from __future__ import annotations

#: Lines of a tool's, or of the app's own words in a message.
OUTPUT_LINES = 12


class StagingError(Exception):
    """A release cannot be made. The message is for the user: what is wrong, in whole sentences."""

    @property
    def what(self) -> str:
        """How a sentence about the release ends."""
        return "cannot be staged"

    @property
    def lines(self) -> list[str]:
        """What stands below that sentence."""
        return str(self).splitlines()


class ToolError(StagingError):
    """A tool failed. The message says at what, as a clause.

    :param output: its last lines, without credentials; may be empty.
    """

    verb = "staged"

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output

    @property
    def what(self) -> str:
        return f"cannot be {self.verb}: {self}"

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()[-OUTPUT_LINES:]
