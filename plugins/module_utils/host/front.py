# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether visitors are led to an app: what nginx's configuration on this host says of it."""

from __future__ import annotations

import contextlib
import re

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout

#: What to say where it does not.
NOT_REACHED = (
    "no nginx site on this host points to it: if nothing else does, visitors cannot reach it. Next: ansible-playbook -i"
    " INVENTORY flaskops.server.site"
)

#: What is read of the configuration, below /etc/nginx.
_READ = ("nginx.conf", "conf.d/*.conf", "sites-enabled/*")


def leads_to(layout: Layout) -> bool:
    """Say whether a site of this host's nginx leads to the app's live release."""
    configuration = layout.root / "etc" / "nginx"
    socket = re.compile(rf"^[^#\n]*/srv/{re.escape(layout.name)}/live/http\.sock\b", re.MULTILINE)
    for pattern in _READ:
        for path in configuration.glob(pattern):
            with contextlib.suppress(OSError):
                if socket.search(path.read_text(encoding="utf-8", errors="replace")):
                    return True
    return False
