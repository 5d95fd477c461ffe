# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contract that every server keeps: what tells one from another, beside the templates of its role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Server:
    """What the engine has to know of a server.

    A role of the same name holds its templates: ``templates/service.conf.j2`` (what its systemd instance needs) and
    ``templates/serve/`` (its configuration).

    :param packages: requirements that a release's virtualenv needs, where the app does not bring them.
    :param graceful_seconds: how long an instance may take to finish what is in flight, by default.
    :param graceful_setting: the server's own setting for that.
    """

    packages: tuple[str, ...]
    graceful_seconds: int
    graceful_setting: str

    def drain_seconds(self, settings: Mapping[str, Any]) -> int:
        """Return how long an instance may take to finish what is in flight."""
        return int(settings.get(self.graceful_setting, self.graceful_seconds))


SERVERS: Mapping[str, Server] = {
    "gunicorn": Server(packages=("gunicorn==27.0.1",), graceful_seconds=25, graceful_setting="graceful_timeout"),
}
