# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release's code runs in: a virtualenv on the host, or an image. The walk knows no more of it than this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.flaskops.server.plugins.module_utils.host.errors import ToolError


@dataclass(frozen=True)
class Bundle:
    """A release in the making.

    :param app: the app's checked spec.
    :param release: its id.
    :param staging: where it is put together; the server's configuration is there already.
    :param artifact: the packed source on the host; None where there is none.
    :param server_packages: requirements that the server adds.
    """

    app: Mapping[str, Any]
    release: str
    staging: Path
    artifact: Path | None = None
    server_packages: list[str] = field(default_factory=list)


class RuntimeBuildError(ToolError):
    """What a release's code runs in cannot be made."""


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


class Builder(Protocol):
    """What makes that of a release which is put together."""

    def build(self, bundle: Bundle) -> dict[str, Any]:
        """Unpack the code and make what it runs in; return the facts of it for ``release.json``.

        :raises RuntimeBuildError: or what the tools it uses raise, where it cannot be made.
        """

    def environment(self, bundle: Bundle) -> dict[str, str]:
        """Return the environment variables that lead to it."""
