# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The contract that every server keeps: what tells one from another, beside the templates of its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.flaskops.server.plugins.plugin_utils.servers import container, gunicorn, mod_wsgi, uwsgi


@dataclass(frozen=True)
class Server:
    """What the engine has to know of a server.

    A role of the same name holds the rest: ``tasks/install.yml`` (what a host needs for it), ``templates/service.conf.j2``
    (what its systemd instance needs), ``templates/serve/`` (its configuration) and, where one unit is not enough,
    ``templates/units/``.

    :param packages: requirements that a release's virtualenv needs, where the app does not bring them.
    :param graceful_seconds: how long an instance may take to finish what is in flight, by default.
    :param graceful_setting: the server's own setting for that.
    :param mistakes: what is wrong with the settings that an app passes through, given them and their path.
    :param runtime: what a release's code runs in, see ``runtimes.py``.
    """

    packages: tuple[str, ...]
    graceful_seconds: int
    graceful_setting: str
    mistakes: Callable[[Mapping[str, Any], str], list[str]]
    runtime: str = "virtualenv"

    def drain_seconds(self, settings: Mapping[str, Any]) -> int:
        """Return how long an instance may take to finish what is in flight."""
        return int(settings.get(self.graceful_setting, self.graceful_seconds))


SERVERS: Mapping[str, Server] = {
    "gunicorn": Server(
        packages=("gunicorn==27.0.1",),
        graceful_seconds=25,
        graceful_setting="graceful_timeout",
        mistakes=gunicorn.mistakes,
    ),
    "uwsgi": Server(
        packages=("pyuwsgi==2.0.30.post1",),
        graceful_seconds=25,
        graceful_setting="worker-reload-mercy",
        mistakes=uwsgi.mistakes,
    ),
    "mod_wsgi": Server(
        packages=("mod_wsgi==5.0.2",),
        graceful_seconds=25,
        graceful_setting="GracefulShutdownTimeout",
        mistakes=mod_wsgi.mistakes,
    ),
    "container": Server(
        packages=("gunicorn==27.0.1",),
        graceful_seconds=25,
        graceful_setting="stop-timeout",
        mistakes=container.mistakes,
        runtime="image",
    ),
}
