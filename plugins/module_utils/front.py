# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether visitors are led to an app: what nginx's configuration on this host says of it."""

from __future__ import annotations

import contextlib

from ansible_collections.flaskops.server.plugins.module_utils.layout import Layout

#: What is read of the configuration, below /etc/nginx.
_READ = ("nginx.conf", "conf.d/*.conf", "sites-enabled/*")


def leads_to(layout: Layout) -> bool:
    """Say whether a site of this host's nginx leads to the app's live release."""
    socket = f"/srv/{layout.name}/live/http.sock"
    for pattern in _READ:
        for path in (layout.root / "etc" / "nginx").glob(pattern):
            with contextlib.suppress(OSError):
                if socket in path.read_text(encoding="utf-8", errors="replace"):
                    return True
    return False
