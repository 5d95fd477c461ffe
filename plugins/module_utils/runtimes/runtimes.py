# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Everything that releases run in."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Runtime
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.image import Image
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv import Virtualenv


def runtimes_for(layout: Layout) -> dict[str, Runtime]:
    """Return every runtime for an app's releases, by the name that servers give."""
    return {"virtualenv": Virtualenv(layout), "image": Image(layout)}
