# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fixtures that scenarios share."""

from __future__ import annotations

from ansible_collections.flaskops.server.tests.support.serving import served

__all__ = ["served"]
