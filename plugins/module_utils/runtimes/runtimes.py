# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release's code runs in: a virtualenv on the host, or an image. The walk knows no more of it than this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.image import Image
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv import Virtualenv


class Runtime(Protocol):
    """What the releases of one app run in on this host, as long as they are there."""

    def command(
        self, release: str, command: list[str], variables: Mapping[str, str]
    ) -> tuple[list[str], dict[str, Any]]:
        """Return what runs a command as the app runs: arguments, and options of :class:`subprocess.Popen`."""

    def ended(self, release: str) -> None:
        """Make sure that nothing is left of a command that was killed."""

    def main_pid(self, release: str, unit_pid: int) -> int:
        """Return the server's main process, whose children are the workers; 0 where there is none.

        :param unit_pid: the main process that systemd knows.
        """

    def prune(self, staged: list[str]) -> None:
        """Remove what none of these releases uses."""


def runtimes_for(layout: Layout) -> dict[str, Runtime]:
    """Return every runtime for an app's releases, by the name that servers give."""
    return {"virtualenv": Virtualenv(layout), "image": Image(layout)}
