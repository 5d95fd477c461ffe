# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The servers that can run an app: every module here with a ``SERVER`` is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from ansible_collections.flaskops.server.plugins.plugin_utils.servers.base import Server

#: The order in which they are listed; others follow by name.
_FIRST = ("gunicorn", "uwsgi", "mod_wsgi", "container")


def _load_servers() -> dict[str, Server]:
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    names.sort(key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    servers = (getattr(importlib.import_module(f"{__name__}.{name}"), "SERVER", None) for name in names)
    return {server.name: server for server in servers if isinstance(server, Server)}


SERVERS: Mapping[str, Server] = _load_servers()
