# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The steps that a controller asks a host for: the module's choices, its documentation and the action plugin go by them."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """A step: the ``state`` of the module ``release``, and what the walk calls it."""

    STAGE = "stage"
    VERIFY = "verify"
    RUN_COMMANDS = "run_commands"
    ACTIVATE = "activate"
    ABORT = "abort"

    @property
    def takes_source(self) -> bool:
        """Whether it may need the packed source; nothing of it outlives a run that is gone, so that it may be killed."""
        return self in (Step.STAGE, Step.VERIFY)
