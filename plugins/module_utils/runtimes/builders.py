# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Everything that makes what releases run in."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.host.layout import Layout
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.base import Builder
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.image_build import ImageBuilder
from ansible_collections.flaskops.server.plugins.module_utils.runtimes.venv_build import VirtualenvBuilder


def builders_for(layout: Layout) -> dict[str, Builder]:
    """Return what makes each runtime of an app's releases, by the name that servers give."""
    return {"virtualenv": VirtualenvBuilder(layout), "image": ImageBuilder(layout)}
