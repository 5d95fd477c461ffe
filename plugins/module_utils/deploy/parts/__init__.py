# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The parts of a release, in the order in which they are asked."""

from __future__ import annotations

from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.base import Part
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.checks import Checks
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.hooks import Hooks
from ansible_collections.flaskops.server.plugins.module_utils.deploy.parts.web import Web

PARTS: tuple[Part, ...] = (Hooks(), Checks(), Web())
