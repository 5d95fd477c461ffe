# Copyright: Contributors to the flaskops.server collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Records of deploys, written short."""

from __future__ import annotations

from typing import Any

from ansible_collections.flaskops.server.plugins.module_utils.host import record


def entries(text: str) -> list[dict[str, Any]]:
    """Return a record: ``A`` a deploy, ``-A`` a failed one, ``<A`` a rollback, ``~A`` one that was taken back."""
    results = {"-": record.FAILED, "~": record.TAKEN_BACK}
    return [
        {
            "action": "rollback" if word[0] == "<" else "deploy",
            "release": word[-1],
            "result": results.get(word[0], record.LIVE),
        }
        for word in text.split()
    ]
