# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes the thing that a release's code runs in."""

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


class Builder(Protocol):
    """What makes that of a release which is put together."""

    def build(self, bundle: Bundle) -> dict[str, Any]:
        """Unpack the code and make what it runs in; return the facts of it for ``release.json``.

        :raises RuntimeBuildError: or what the tools it uses raise, where it cannot be made.
        """

    def environment(self, bundle: Bundle) -> dict[str, str]:
        """Return the environment variables that lead to it."""
